"""Weights load strictly or say why not; saving is atomic."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from utils.checkpoint import load_state_dict, load_strict, load_training_state, save_atomic, save_safetensors
from utils.errors import UserError
from utils.files import replacing
from utils.network_metadata import UnreadableCheckpoint

ROOT = Path(__file__).resolve().parent.parent


def network(width: int = 4, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# Loading


@pytest.mark.parametrize(
    "wrap", [lambda w: w, lambda w: {"state_dict": w, "step": 3}, lambda w: {"model": w}]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pt_files_wrapped_or_prefixed(tmp_path: Path, wrap, prefix: str):
    weights = network().state_dict()
    torch.save(wrap({prefix + key: value for key, value in weights.items()}), tmp_path / "a.pt")
    loaded, metadata = load_state_dict(tmp_path / "a.pt")
    assert same(loaded, weights) and metadata == {}


def test_safetensors_keep_weights_and_metadata(tmp_path: Path):
    weights = network().state_dict()
    metadata = {"step": 7, "network": {"channel_mult": [1, 2]}, "note": "plain text", "json": '{"a": 0}'}
    save_safetensors(tmp_path / "new/a.safetensors", weights, metadata)
    loaded, read = load_state_dict(tmp_path / "new/a.safetensors")
    assert same(loaded, weights)
    assert read == {"step": 7, "network": {"channel_mult": [1, 2]}, "note": "plain text", "json": {"a": 0}}


def test_equal_contents_are_equal_bytes(tmp_path: Path):
    weights = network().state_dict()
    metadata = {"b": {"y": 1, "x": "é\n\x01"}, "a": 2.5, **{f"key {n}": n for n in range(9)}}
    backwards = dict(reversed(metadata.items())) | {"b": {"x": "é\n\x01", "y": 1}}
    save_safetensors(tmp_path / "a.safetensors", weights, metadata)
    save_safetensors(tmp_path / "b.safetensors", dict(reversed(weights.items())), backwards)
    content = (tmp_path / "a.safetensors").read_bytes()
    assert content == (tmp_path / "b.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header) == sorted(header) and list(header["__metadata__"]) == sorted(metadata)
    loaded, read = load_state_dict(tmp_path / "b.safetensors")
    assert same(loaded, weights) and read == metadata


def test_half_precision_file_fills_a_float32_model(tmp_path: Path):
    source, target = network(seed=1), network(seed=2)
    save_safetensors(tmp_path / "a.safetensors", source.state_dict(), {"step": 1}, torch.float16)
    stored = load_state_dict(tmp_path / "a.safetensors")[0]
    assert stored["0.weight"].dtype == torch.float16 and stored["1.num_batches_tracked"].dtype == torch.int64
    assert load_strict(target, tmp_path / "a.safetensors", ["num_channels"], "the model") == {"step": 1}
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, source[0].weight.half().float())


def test_channels_last_and_tied_weights_are_saved(tmp_path: Path):
    model = network().to(memory_format=torch.channels_last)
    weights = {**model.state_dict(), "tied": model[0].weight}
    save_safetensors(tmp_path / "a.safetensors", weights)
    loaded = load_state_dict(tmp_path / "a.safetensors")[0]
    assert torch.equal(loaded["tied"], model[0].weight) and torch.equal(loaded["0.weight"], model[0].weight)


def test_misfit_names_weights_shapes_and_keys(tmp_path: Path):
    model = network(width=4)
    save_atomic(tmp_path / "a.pt", {**network(width=8).state_dict(), "extra": torch.zeros(2)})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_strict(model, tmp_path / "a.pt", ["num_channels", "channel_mult"], "the defect prior")
    message = str(caught.value)
    assert "a.pt does not fit the defect prior: 7 weights differ" in message
    assert "num_channels, channel_mult" in message
    assert "0.weight: the file has (8, 3, 3, 3), the configuration asks for (4, 3, 3, 3)" in message
    assert "and 2 more" in message
    assert same(model.state_dict(), before)


def test_missing_and_superfluous_names(tmp_path: Path):
    weights = network().state_dict()
    weights["surplus"] = weights.pop("0.bias")
    save_atomic(tmp_path / "a.pt", weights)
    with pytest.raises(UserError) as caught:
        load_strict(network(), tmp_path / "a.pt", [], "the model")
    assert "0.bias: the file has nothing, the configuration asks for (4,)" in str(caught.value)
    assert "surplus: the file has (4,), the configuration asks for nothing" in str(caught.value)


@pytest.mark.parametrize("name", ["checkpoint-256-defect-free.pt", "checkpoint-64-defect.pt"])
def test_missing_published_file_says_where_to_get_it(tmp_path: Path, name: str):
    with pytest.raises(UserError) as caught:
        load_state_dict(tmp_path / name)
    for part in (name, "Google Drive", "github.com/xiaohang0608/CRG-Diffusion", "confs/demo.yml"):
        assert part in str(caught.value)


def test_other_missing_file(tmp_path: Path):
    with pytest.raises(UserError, match="train.py writes it, so run the conf that trains"):
        load_state_dict(tmp_path / "runs/mine-prior/last.safetensors")
    with pytest.raises(UserError, match="mine.safetensors: no such checkpoint") as caught:
        load_state_dict(tmp_path / "mine.safetensors")
    assert "Google" not in str(caught.value) and "confs/demo.yml" in str(caught.value)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text\n"]
)
def test_damaged_file(tmp_path: Path, name: str, damage):
    path = tmp_path / name
    (save_safetensors if name.endswith("safetensors") else save_atomic)(path, network().state_dict())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnreadableCheckpoint, match="not a readable") as caught:
        load_state_dict(path)
    assert isinstance(caught.value, UserError) and isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


class _Foreign:
    """Anything that is not weights."""


@pytest.mark.parametrize("content", [[1, 2], {}, {"step": 3}, {"a": torch.zeros(1), "b": "text"}, _Foreign()])
def test_file_without_weights(tmp_path: Path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="a.pt"):
        load_state_dict(tmp_path / "a.pt")


# Training states


def training_state(**changes: object) -> dict:
    weights = {"w": torch.zeros(2)}
    parts = {"optimizer": {}, "scaler": {}, "time_sampler": {}}
    return {"step": 3, "model": weights, "ema": {0.9: weights}, **parts} | changes


def test_training_state_comes_back(tmp_path: Path):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    save_atomic(tmp_path / "run/state.pt", training_state(step=5, optimizer=optimizer.state_dict()))
    state = load_training_state(tmp_path / "run/state.pt")
    assert state["step"] == 5
    first = optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], first)


def test_unusable_training_states(tmp_path: Path):
    with pytest.raises(UserError, match="no such training state"):
        load_training_state(tmp_path / "state.pt")
    save_atomic(tmp_path / "list.pt", [1])
    with pytest.raises(UnreadableCheckpoint, match="got a list, expected a training state"):
        load_training_state(tmp_path / "list.pt")


@pytest.mark.parametrize(
    "change",
    [
        *({"step": step} for step in (1.5, -3, "3", None, True)),
        *({"model": model} for model in ([], {"w": 1}, {1: torch.zeros(1)})),
        *({"ema": {"x": {}}}, {"optimizer": 3}, {"scaler": None}, {"time_sampler": torch.zeros(1)}),
    ],
)
def test_damaged_training_states(tmp_path: Path, change: dict):
    save_atomic(tmp_path / "state.pt", training_state(**change))
    with pytest.raises(UnreadableCheckpoint, match=f"no training state: {next(iter(change))}"):
        load_training_state(tmp_path / "state.pt")


def test_equal_training_states_are_equal_bytes_whichever_process_writes_them(tmp_path: Path):
    save_atomic(tmp_path / "here.pt", training_state())
    program = (
        "import sys, torch; from utils.checkpoint import save_atomic; from tests.test_checkpoint import "
        "training_state; save_atomic(sys.argv[1], training_state())"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "there.pt"], cwd=ROOT, check=True)
    assert (tmp_path / "here.pt").read_bytes() == (tmp_path / "there.pt").read_bytes()


# Atomic writing


def test_failed_write_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stopped")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("save", [save_atomic, save_safetensors])
def test_a_file_that_there_is_no_room_for(tmp_path: Path, save):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="cannot be written whole") as caught:
            save(tmp_path / "a", {"a": torch.zeros(10000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "a") and list(tmp_path.iterdir()) == []


def test_weights_can_be_read_by_whom_the_umask_lets(tmp_path: Path):
    before = os.umask(0o027)
    try:
        save_safetensors(tmp_path / "a.safetensors", network().state_dict())
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


def test_the_state_of_a_resumed_training_has_the_bytes_of_one_that_was_never_stopped(tmp_path: Path):
    model = network()
    first = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 4, 4)).sum().backward()
    first.step()
    save_atomic(tmp_path / "a.pt", {"optimizer": first.state_dict(), "step": 3})
    second = torch.optim.AdamW(model.parameters())
    second.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True)["optimizer"])
    save_atomic(tmp_path / "b.pt", {"optimizer": second.state_dict(), "step": 3})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
