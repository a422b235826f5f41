"""Configuration: published files give published values; every mistake is named with file, key and cure."""

from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from utils.checkpoint import save_safetensors
from utils.config import (
    differences,
    load_generation_config,
    load_training_config,
    program_of,
    read_conf,
    resolved_yaml,
    settings_fingerprint,
)
from utils.errors import UserError
from utils.network_metadata import network_differences
from utils.schema.downstream import DownstreamConfig
from utils.schema.generation import GenerationConfig
from utils.schema.network import NetworkConfig
from utils.schema.reference import config_reference
from utils.schema.training import TrainingConfig

ROOT = Path(__file__).parent.parent


def conf(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "conf.yml"
    path.write_text(text)
    return path


def problem(tmp_path: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as caught:
        load_generation_config(conf(tmp_path, text), overrides)
    return str(caught.value).replace(str(tmp_path) + "/", "")


# The files that come with the project


def test_published_generation_file_holds_the_published_values():
    cfg = load_generation_config(ROOT / "confs/pcb_gen.yml")
    assert cfg == GenerationConfig()
    schedule = cfg.ddim.schedule_params
    assert (cfg.n_samples, cfg.n_iter, cfg.seed, cfg.precision, cfg.ignored_keys) == (4, 1, None, "fp32", ())
    assert (schedule.num_inference_steps, schedule.ddpm_num_steps, schedule.start_step) == (250, 250, 30)
    assert (schedule.jump_length, schedule.jump_n_sample, schedule.use_timetravel) == (10, 3, True)
    assert (cfg.optimize_xt.lr_xt, cfg.optimize_xt.lr_xt_decay, cfg.optimize_xt.coef_xt_reg) == (
        0.1,
        1.012,
        1e-4,
    )
    assert (cfg.attention_features.temperature, cfg.attention_features.min_area_ratio) == (0.3, 0.01)
    assert (cfg.network.image_size, cfg.network.channel_mult) == (256, (1, 1, 2, 3, 4, 4))
    assert (cfg.crop.image_size, cfg.crop.num_channels, cfg.crop.num_head_channels) == (64, 64, 16)
    assert cfg.crop.channel_mult == (1, 2, 3, 4) and cfg.crop.class_cond and not cfg.network.class_cond
    assert (cfg.diffusion.diffusion_steps, cfg.diffusion.timestep_respacing) == (1000, "250")


@pytest.mark.parametrize("size, batch, class_cond", [(256, 8, False), (64, 64, True)])
def test_training_files_build_the_networks_of_generation(size: int, batch: int, class_cond: bool):
    cfg = load_training_config(ROOT / f"confs/train-{size}.yml")
    generation = load_generation_config(ROOT / "confs/pcb_gen.yml")
    twin = generation.network if size == 256 else generation.crop
    assert cfg.network == twin.model_copy(update={"use_fp16": True})
    assert (cfg.lr, cfg.batch_size, cfg.ema_rate, cfg.precision) == (1e-4, batch, (0.9999,), "fp16")
    assert (cfg.network.class_cond, cfg.diffusion.timestep_respacing) == (class_cond, "")


@pytest.mark.parametrize("name", ["pcb_gen.yml", "train-64.yml", "train-256.yml"])
def test_files_name_every_key_and_explain_it(name: str):
    text = (ROOT / "confs" / name).read_text()
    schema = GenerationConfig if name == "pcb_gen.yml" else TrainingConfig
    loaded, full = yaml.safe_load(text), yaml.safe_load(resolved_yaml(schema()))
    groups = {key for key, value in full.items() if isinstance(value, dict)}
    assert set(loaded) == set(full)
    for group in groups:
        assert set(loaded[group]) == set(full[group])
    bare = [line for line in text.splitlines() if ":" in line and "#" not in line]
    assert all(line.rstrip().endswith(":") for line in bare)  # group names need no comment


def test_reference_is_up_to_date():
    assert (ROOT / "docs/configuration.md").read_text() == config_reference()


# Tolerant reading


def test_numbers_and_lists_may_be_strings(tmp_path: Path):
    text = "n_samples: '8'\ntimestep_respacing: 50\nchannel_mult: [1, 2]\noptimize_xt: {lr_xt: 1e-4}\nseed: 0"
    cfg = load_generation_config(conf(tmp_path, text), ["attention_resolutions=32"])
    assert (cfg.n_samples, cfg.optimize_xt.lr_xt, cfg.seed) == (8, 1e-4, 0)
    assert (cfg.network.channel_mult, cfg.network.attention_resolutions) == ((1, 2), (32,))
    assert cfg.diffusion.timestep_respacing == "50"
    rates = load_training_config(conf(tmp_path, "ema_rate: 0.9, 0.999\nlr: 3e-4"))
    assert (rates.ema_rate, rates.lr) == ((0.9, 0.999), 3e-4)


def test_empty_multipliers_follow_the_image_size():
    assert NetworkConfig(channel_mult="").resolved_channel_mult() == (1, 1, 2, 2, 4, 4)
    network = NetworkConfig(image_size=512, channel_mult="", attention_resolutions="32, 16", num_channels=256)
    assert network.resolved_channel_mult() == (0.5, 1, 1, 2, 2, 4, 4)
    assert network.attention_factors() == (16, 32)


def test_partial_crop_keeps_the_other_crop_values(tmp_path: Path):
    cfg = load_generation_config(conf(tmp_path, "crop: {num_channels: 32, num_head_channels: 8}"))
    assert (cfg.crop.num_channels, cfg.crop.image_size, cfg.crop.class_cond) == (32, 64, True)


@pytest.mark.parametrize(
    "text, overrides, expected",
    [
        ("seed: 1", [], "fp32"),
        ("use_fp16: true", [], "fp16"),
        ("use_fp16: true\nprecision:", [], "fp16"),
        ("crop: {use_fp16: true}", [], "fp16"),
        ("use_fp16: true", ["precision=bf16"], "bf16"),
    ],
)
def test_precision_follows_the_old_key_unless_given(
    tmp_path: Path, text: str, overrides: list[str], expected: str
):
    assert load_generation_config(conf(tmp_path, text), overrides).precision == expected


def test_schedule_keys_directly_under_ddim(tmp_path: Path):
    cfg = load_generation_config(conf(tmp_path, "ddim: {start_step: 60, schedule_params: {jump_length: 5}}"))
    assert (cfg.ddim.schedule_params.start_step, cfg.ddim.schedule_params.jump_length) == (60, 5)
    same = conf(tmp_path, "ddim: {start_step: 60, schedule_params: {start_step: '60'}}")
    assert load_generation_config(same).ddim.schedule_params.start_step == 60
    assert load_generation_config(same, ["ddim.start_step=7"]).ddim.schedule_params.start_step == 7
    assert (
        load_generation_config(same, ["ddim.schedule_params.start_step=8"]).ddim.schedule_params.start_step
        == 8
    )
    text = problem(tmp_path, "ddim: {start_step: 60, schedule_params: {start_step: 30}}")
    assert "ddim.start_step: got 60 here and 30 in ddim.schedule_params.start_step" in text


def test_ignored_keys_are_listed(tmp_path: Path):
    text = (
        "algorithm: o\nrepaint: {a: 1}\nclassifier_scale: 4\noptimize_xt: {num_iteration_optimize_xt: 2}\n"
        "respace_interpolate: false"
    )
    cfg = load_generation_config(conf(tmp_path, text))
    expected = {"algorithm", "repaint", "classifier_scale", "respace_interpolate"}
    assert set(cfg.ignored_keys) == expected | {"optimize_xt.num_iteration_optimize_xt"}
    training = load_training_config(conf(tmp_path, "fp16_scale_growth: 1e-3\nshow_progress: true"))
    assert set(training.ignored_keys) == {"fp16_scale_growth", "show_progress"}


# Mistakes


@pytest.mark.parametrize(
    "text, expected",
    [
        ("seeed: 1", "conf.yml: seeed: unknown key; did you mean seed?"),
        ("start_step: 60", "start_step: unknown key; did you mean ddim.schedule_params.start_step?"),
        ("ddim: {ddim_sgma: 1}", "ddim.ddim_sgma: unknown key; did you mean ddim.ddim_sigma?"),
        ("network: {image_size: 64}", "network.image_size: unknown key; did you mean image_size?"),
        ("1: 2", "1: unknown key"),
        ("n_samples: three", "n_samples: got 'three', expected whole number >= 1"),
        ("n_samples: true", "n_samples: got true, expected whole number >= 1"),
        ("n_samples: 2.5", "n_samples: got 2.5, expected whole number >= 1"),
        ("n_samples:", "n_samples: got null, expected whole number >= 1"),
        ("batch_size: 0", "batch_size: got 0, expected whole number >= 1"),
        ("noise_schedule: sqrt", "noise_schedule: got 'sqrt', expected linear or cosine"),
        ("device: tpu", "device: got 'tpu', expected auto, cpu, cuda or cuda:N or null"),
        (
            "timestep_respacing: fast",
            "timestep_respacing: got 'fast', expected '', '250', '10,15,20' or 'ddim25'",
        ),
        (
            "ddim: {schedule_params: {start_step: -1}}",
            "start_step: got -1, expected whole number >= 0 or auto or null",
        ),
        (
            "attention_features: {temperature: .nan}",
            "attention_features.temperature: got nan, expected number > 0",
        ),
        ("channel_mult: 1, x", "channel_mult: got '1, x', expected list of numbers > 0"),
        ("optimize_xt: true", "optimize_xt: got true, expected a group of keys"),
        ("respace_interpolate: true", "respace_interpolate: got true, expected false"),
        ("class_cond: true", "class_cond: got true, expected false"),
        ("scale: 2", "scale: got 2.0, expected 1.0 (other values need `resize: native`"),
        ("image_size: 32", "crop.image_size: got 64, expected at most image_size (32)"),
        ("image_size: 100", "image_size: got 100, expected a multiple of 32"),
        (
            "num_channels: 80",
            "num_channels: got 80, which with channel_mult gives levels of 80, 80, 240 channels",
        ),
        ("num_head_channels: 48", "num_head_channels: got 48, expected a divisor of 512"),
        ("num_head_channels: -1\nnum_heads: 3", "num_heads: got 3, expected a divisor of 512"),
        ("image_size: 96\nchannel_mult: ''", "channel_mult: got nothing with image_size 96, expected a list"),
        ("crop: {num_channels: 48}", "crop.num_channels: got 48"),
        (
            f"model_path: {'m' * 256}.safetensors",
            "expected a path of at most 4000 characters, 255 bytes a name",
        ),
        (
            "ddim: {num_inference_steps: 500, use_timetravel: false}",
            "num_inference_steps: got 500, expected at most ddpm_num_steps (250) without time travel",
        ),
    ],
)
def test_mistake_is_named(tmp_path: Path, text: str, expected: str):
    message = problem(tmp_path, text)
    assert expected in message
    assert message.startswith("conf.yml: ") and "\n" not in message


def test_all_mistakes_are_listed_at_once(tmp_path: Path):
    text = "seeed: 1\nn_samples: x\ncrop: {num_channels: 48, foo: 1}\ng_scha: {stop: -1}"
    lines = problem(tmp_path, text, ("debug=maybe",)).splitlines()
    assert lines[0] == "conf.yml cannot be used (6 problems):"
    keys = {line.removeprefix("  - ").split(": ")[1] for line in lines[1:]}
    assert keys == {"seeed", "n_samples", "crop.num_channels", "crop.foo", "g_scha.stop", "debug"}
    assert "  - command line: debug: got 'maybe', expected true or false" in lines


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("- a\n- b", "got a list, expected lines of `key: value`"),
        ("a: [1", "not valid YAML in line 1, column 6"),
        ("seed: 1\nseed: 2", "key 'seed' is given twice"),
        ("? [a, b]\n: 1", "not valid YAML in line 1, column 3"),
    ],
)
def test_unusable_file_is_one_sentence(tmp_path: Path, text: str, expected: str):
    message = problem(tmp_path, text)
    assert message.startswith("conf.yml: ") and expected in message and "\n" not in message


def test_missing_file(tmp_path: Path):
    with pytest.raises(UserError, match="nope.yml: no such configuration file"):
        load_training_config(tmp_path / "nope.yml")


@pytest.mark.parametrize("override", ["seed", "=3", "a..b=1", "seed.x=1", "seed=[1"])
def test_malformed_override(tmp_path: Path, override: str):
    assert problem(tmp_path, "seed: 1", (override,)).startswith("command line: ")


def test_command_line_is_named_for_either_spelling_of_a_schedule_key(tmp_path: Path):
    expected = (
        "command line: ddim.schedule_params.start_step: got 'x', expected whole number >= 0 or auto or null"
    )
    for key in ("ddim.start_step", "ddim.schedule_params.start_step"):
        assert problem(tmp_path, "seed: 1", (f"{key}=x",)) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("max_t: 2000", "max_t: got 2000, expected at most diffusion_steps (1000)"),
        ("min_t: 5\nmax_t: 5", "min_t: got 5, expected less than max_t (5)"),
        ("max_t: auto", "max_t: got auto, expected a number or null (condition is none"),
        ("max_t: 0", "max_t: got 0, expected whole number >= 1 or auto or null"),
        ("microbatch: 0", "microbatch: got 0"),
        ("ema_rate: 0.9, 1.5", "ema_rate: got '0.9, 1.5', expected list of numbers >= 0 and < 1"),
        ("ema_rate: ''", "ema_rate: got ''"),
        ("n_samples: 1", "n_samples: unknown key; did you mean sample_num?"),
    ],
)
def test_training_mistakes(tmp_path: Path, text: str, expected: str):
    with pytest.raises(UserError) as caught:
        load_training_config(conf(tmp_path, text))
    assert expected in str(caught.value)


def test_config_is_frozen():
    with pytest.raises(ValidationError):
        GenerationConfig().seed = 1


# Writing


def test_resolved_yaml_loads_back(tmp_path: Path):
    text = "use_fp16: true\nscale: auto\nresize: native\nchannel_mult: 0.5, 1\noptimize_xt: {lr_xt: 1e-5}"
    cfg = load_generation_config(
        conf(tmp_path, text), ["ddim.time_travel_filter_type=firstp-12.5", "ddim.ddim_sigma=1.5"]
    )
    assert load_generation_config(conf(tmp_path, resolved_yaml(cfg))) == cfg
    training = load_training_config(ROOT / "confs/train-64.yml", ["lr=1e-7", "ema_rate='0.9,0.99'"])
    assert load_training_config(conf(tmp_path, resolved_yaml(training))) == training


def test_fingerprint_changes_with_the_picture_alone(tmp_path: Path):
    path = conf(tmp_path, "seed: 1")
    base = settings_fingerprint(load_generation_config(path))
    assert base["ddim.schedule_params.start_step"] == 30 and base["image_size"] == 256
    talk = [
        "outdir=elsewhere",
        "n_samples=9",
        "n_iter=2",
        "device=cpu",
        "debug=true",
        "overwrite=true",
        "batch_size=3",
    ]
    assert settings_fingerprint(load_generation_config(path, talk)) == base
    other = settings_fingerprint(load_generation_config(path, ["ddim.start_step=60", "seed=2"]))
    expected = ["ddim.schedule_params.start_step: 30 against 60", "seed: 1 against 2"]
    assert sorted(differences(base, other)) == expected
    assert differences({"a": None}, {}) == ["a: null against nothing"]


def test_the_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/someone")
    cfg = load_generation_config(conf(tmp_path, "model_path: ~/weights/a.pt"), ["outdir=~/results"])
    assert (cfg.model_path, cfg.outdir) == ("/home/someone/weights/a.pt", "/home/someone/results")


# Networks that the weights describe

TRAINED = {"image_size": 32, "num_channels": 64, "channel_mult": [1.0, 2.0], "attention_resolutions": [16]}
TRAINED |= {
    "num_heads": 2,
    "num_head_channels": -1,
    "learn_sigma": False,
    "dropout": 0.5,
    "of_a_later_version": 1,
}


def test_network_keys_that_are_left_out_come_from_the_weights(tmp_path: Path):
    save_safetensors(tmp_path / "full.safetensors", {"a": torch.zeros(1)}, {"network": TRAINED})
    prior = TRAINED | {"class_cond": True, "image_size": 16}
    save_safetensors(tmp_path / "prior.safetensors", {"a": torch.zeros(1)}, {"network": prior})
    paths = f"model_path: {tmp_path}/full.safetensors\ncrop_model_path: {tmp_path}/prior.safetensors\n"
    cfg = load_generation_config(conf(tmp_path, paths))
    assert (cfg.network.image_size, cfg.network.channel_mult, cfg.network.num_heads) == (32, (1, 2), 2)
    assert (cfg.network.dropout, cfg.network.learn_sigma, cfg.network.num_res_blocks) == (0, False, 2)
    assert (cfg.crop.image_size, cfg.crop.num_channels, cfg.crop.class_cond) == (16, 64, True)
    # What the file or the command line says stands; the command line may also name the weights.
    text = f"crop_model_path: {tmp_path}/prior.safetensors\nnum_channels: 32\ncrop: {{num_heads: 1}}"
    cfg = load_generation_config(
        conf(tmp_path, text), [f"model_path={tmp_path}/full.safetensors", "crop.num_channels=96"]
    )
    assert (cfg.network.num_channels, cfg.network.image_size) == (32, 32)
    assert (cfg.crop.num_channels, cfg.crop.num_heads, cfg.crop.image_size) == (96, 1, 16)


@pytest.mark.parametrize("metadata", [None, {"network": "of another program"}, {"format": "pt"}])
def test_weights_that_say_nothing_leave_the_published_defaults(tmp_path: Path, metadata: dict | None):
    path = tmp_path / "full.safetensors"
    save_safetensors(path, {"a": torch.zeros(1)}, metadata)
    assert load_generation_config(conf(tmp_path, f"model_path: {path}")).network == NetworkConfig()
    (tmp_path / "full.pt").write_bytes(b"not read")
    cfg = load_generation_config(conf(tmp_path, f"model_path: {tmp_path}/full.pt"))
    assert (cfg.network, cfg.crop) == (NetworkConfig(), GenerationConfig().crop)


@pytest.mark.parametrize(
    "size, expected", [("64", (32, 16)), ("'96'", (48, 24)), ("32", (16, 8)), ("16", (8, 4))]
)
def test_attention_follows_another_image_size(tmp_path: Path, size: str, expected: tuple[int, ...]):
    trained = TRAINED | {"channel_mult": [1.0, 2.0, 2.0], "attention_resolutions": [16, 8]}  # factors 2 and 4
    save_safetensors(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {"network": trained})
    paths = f"model_path: {tmp_path}/a.safetensors\ncrop_model_path: {tmp_path}/a.safetensors\n"
    cfg = load_generation_config(conf(tmp_path, f"{paths}image_size: 96\ncrop: {{image_size: {size}}}"))
    assert cfg.network.attention_resolutions == (48, 24)
    assert cfg.crop.attention_resolutions == expected and cfg.crop.attention_factors() == (2, 4)
    path = tmp_path / "a.safetensors"
    for network in (cfg.network, cfg.crop):
        assert network_differences({"network": trained}, network.plain(), path) == []
    # What is given stands, and a size that is none is told of as ever
    cfg = load_generation_config(conf(tmp_path, f"{paths}image_size: 64\nattention_resolutions: 16"))
    assert cfg.network.attention_resolutions == (16,)
    assert "image_size: got 'wide', expected" in problem(tmp_path, f"{paths}image_size: wide")


def test_missing_weights_that_would_tell_the_networks_size_come_first(tmp_path: Path):
    paths = f"model_path: {tmp_path}/no.safetensors\ncrop_model_path: {tmp_path}/none.safetensors\n"
    message = problem(tmp_path, f"{paths}dry_run: true")
    assert "(2 problems)" in message
    for key, name in (("model_path", "no"), ("crop_model_path", "none")):
        assert f"{key}: the network's options are read from these weights, but {name}.safetensors" in message
    assert message.count("no such checkpoint") == 2
    # Checks that rest on the defaults would mislead: the default crop is larger, 40 px fit no six levels
    message = problem(tmp_path, f"crop_model_path: {tmp_path}/no.safetensors\nimage_size: 32")
    assert "no.safetensors: no such checkpoint" in message and "\n" not in message
    message = problem(tmp_path, f"model_path: {tmp_path}/no.safetensors\nimage_size: 40\nseed: -1")
    assert "(2 problems)" in message and "seed: got -1" in message and "multiple of" not in message
    # A network that the file describes can be planned with, and so can published weights
    full = "image_size: 64\nnum_channels: 32\nnum_res_blocks: 1\nchannel_mult: 1, 2"
    cfg = load_generation_config(conf(tmp_path, f"model_path: {tmp_path}/no.safetensors\n{full}"))
    assert cfg.network.channel_mult == (1, 2)
    assert load_generation_config(conf(tmp_path, "model_path: no.pt")).network == NetworkConfig()


def test_weights_that_describe_no_network_are_named(tmp_path: Path):
    path = tmp_path / "full.safetensors"
    save_safetensors(path, {"a": torch.zeros(1)}, {"network": {"num_channels": "many"}})
    message = problem(tmp_path, f"model_path: {path}")
    assert "full.safetensors: its metadata describe no network" in message
    path.write_bytes(path.read_bytes()[:20])
    assert "full.safetensors: not a readable safetensors file" in problem(tmp_path, f"model_path: {path}")


def test_the_class_file_is_optional_where_the_weights_know_the_classes(tmp_path: Path):
    path = tmp_path / "prior.safetensors"
    save_safetensors(path, {"a": torch.zeros(1)}, {"network": TRAINED, "classes": {"short": 0}})
    paths = f"model_path: {path}\ncrop_model_path: {path}\n"
    cfg = load_generation_config(conf(tmp_path, paths))
    assert cfg.crop_class_json_path == ""
    assert load_generation_config(conf(tmp_path, resolved_yaml(cfg))) == cfg
    assert settings_fingerprint(cfg)["crop_class_json_path"] == ""
    given = f"{paths}crop_class_json_path: mine.json"
    assert load_generation_config(conf(tmp_path, given)).crop_class_json_path == "mine.json"
    # Weights that know none leave the published default
    save_safetensors(path, {"a": torch.zeros(1)}, {"network": TRAINED, "classes": {}})
    assert load_generation_config(conf(tmp_path, paths)).crop_class_json_path == "./data/pcb.json"


def test_the_published_training_files_need_no_class_file_and_no_gpu(tmp_path: Path):
    text = (ROOT / "confs/train-256.yml").read_text()
    assert yaml.safe_load(text)["class_json_path"] is None
    cfg = load_training_config(ROOT / "confs/train-256.yml")
    assert cfg.class_json_path == "" and not cfg.network.class_cond
    for name in ("train-256.yml", "train-64.yml"):  # not asked for by its own name: falls back without a GPU
        assert load_training_config(ROOT / "confs" / name).precision == "fp16"


def test_the_earlier_name_of_the_placement_score():
    assert load_generation_config("confs/demo.yml", ["plan.rank=appeal"]).plan.rank == "score"


# Paths


def test_paths_are_those_of_the_working_directory_else_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    demo = load_generation_config(ROOT / "confs/demo.yml")
    monkeypatch.chdir(tmp_path)
    cfg = load_generation_config("confs/demo.yml")
    assert cfg.model_path == str(ROOT / "checkpoint/demo-128-defect-free.safetensors")
    assert cfg.defect_free_dir.rstrip("/") == str(ROOT / "data/sample")
    assert cfg.outdir == demo.outdir and not Path(cfg.outdir).is_absolute()
    assert cfg.network == demo.network
    assert settings_fingerprint(cfg) == settings_fingerprint(demo)
    (tmp_path / "data/sample").mkdir(parents=True)
    assert load_generation_config("confs/demo.yml").defect_free_dir.rstrip("/") == "data/sample"
    assert (
        load_generation_config("confs/demo.yml", ["model_path=checkpoint/no.pt"]).model_path
        == "checkpoint/no.pt"
    )


def test_defaults_are_found_from_anywhere_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert load_generation_config(conf(tmp_path, "seed: 1")).crop_class_json_path == str(
        ROOT / "data/pcb.json"
    )
    training = load_training_config("confs/demo-train-64.yml")
    assert training.class_json_path == str(ROOT / "data/pcb.json") or training.class_json_path.startswith(
        "data"
    )
    assert training.init_from == "" and not Path(training.checkpoint_dir).is_absolute()


# What a file is for, and whose mistake it is


def test_a_file_of_the_other_program_is_one_sentence(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"^confs/train-64.yml is a configuration for train.py, not for sample"
    ) as one:
        load_generation_config("confs/train-64.yml")
    with pytest.raises(UserError, match=r"run `python sample_generation.py confs/demo.yml`") as other:
        load_training_config("confs/demo.yml")
    assert "\n" not in f"{one.value}{other.value}"


@pytest.mark.parametrize("path", sorted((ROOT / "confs").glob("*.yml")), ids=lambda path: path.name)
def test_the_program_of_every_file_is_known(path: Path):
    usual = TrainingConfig if "train-" in path.name else GenerationConfig
    expected = DownstreamConfig if path.name.startswith("downstream-") else usual
    assert program_of(read_conf(path)) is expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("atention_features.temperature=1", "did you mean attention_features.temperature?"),
        ("optimise_xt.lr_xt=1", "did you mean optimize_xt.lr_xt?"),
        ("cropp.image_size=64", "did you mean crop.image_size?"),
    ],
)
def test_a_mistyped_group_on_the_command_line(tmp_path: Path, override: str, expected: str):
    name = override.partition("=")[0]
    assert problem(tmp_path, "seed: 1", (override,)) == f"command line: {name}: unknown key; {expected}"


def test_overrides_as_values(tmp_path: Path):
    path = conf(tmp_path, "seed: 1")
    cfg = load_generation_config(path, {"seed": 2, "ddim.start_step": 7, "channel_mult": [1, 2]})
    assert (cfg.seed, cfg.ddim.schedule_params.start_step, cfg.network.channel_mult) == (2, 7, (1, 2))
    with pytest.raises(UserError, match="^argument: seed: got 'x', expected whole number"):
        load_generation_config(path, {"seed": "x"})


@pytest.mark.parametrize(
    "text, expected",
    [
        ("n_samples: 1.0e+9", "n_samples: got 1000000000.0, expected at most 1000000"),
        ("channel_mult: 1.0e+308", "channel_mult: got 1e+308"),
        ("num_res_blocks: 1000", "num_res_blocks: got 1000, expected whole number >= 1 and <= 64"),
        ("plan: {keep: 1.0e-300}", "plan.keep: got 1e-300, expected number >= 0.0001 and <= 1"),
        ("ddim: {jump_n_sample: 2147483648}", "jump_n_sample: got 2147483648"),
        (f"outdir: {'x' * 300}", "outdir: got"),
        (f"channel_mult: {[1] * 17}", "expected at most 16 values"),
        (f"seed: {'9' * 400}", "bits"),
    ],
)
def test_absurd_values_are_refused_in_a_line(tmp_path: Path, text: str, expected: str):
    with pytest.raises(UserError) as caught:
        load_generation_config(conf(tmp_path, text))
    assert expected in str(caught.value) and len(str(caught.value)) < 1000
