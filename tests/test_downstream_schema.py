"""The keys of evaluation.downstream: lists of words, checks across keys, the confs that ship."""

from pathlib import Path

import pytest

from utils.config import load_downstream_config, load_generation_config, resolved_yaml
from utils.errors import UserError

CONFS = sorted(path.name for path in (Path(__file__).parent.parent / "confs").glob("downstream-*.yml"))


@pytest.mark.parametrize("name", CONFS)
def test_the_confs_load_and_are_told_from_others(name: str, tmp_path: Path):
    config = load_downstream_config(f"confs/{name}")
    assert config.evaluate == "validation"  # nothing that ships uses up the test part
    assert config.outdir == f"runs/{name.removesuffix('.yml')}"
    path = tmp_path / "again.yml"
    path.write_text(resolved_yaml(config))
    assert load_downstream_config(path) == config
    with pytest.raises(
        UserError, match=r"is a configuration for evaluation.downstream, not for sample_gen.*`python -m"
    ):
        load_generation_config(f"confs/{name}")


def test_lists_may_be_texts():
    config = load_downstream_config(
        "confs/downstream-own.yml",
        ["arms=real, ours", "holdout=['07', b]", "volumes=1,2", "real_shares=0.25"],
    )
    assert config.arms == ("real", "ours") and config.volumes == (1, 2) and config.real_shares == (0.25,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["holdout=[7]"], r"holdout: got \[7\], expected list of texts, numbers in quotes"),
        (["arms=theirs"], "arms: got 'theirs', expected list of real or copy_paste"),
        (["holdout=a,b", "validation=b"], "validation: got b, which is in holdout"),
        (["ablations=no_refinement"], "ablations: got no_refinement, which need a contextual model"),
        (["split=random", "holdout=a"], "split: got random with groups"),
        (["source=", "holdout=a"], "holdout: got groups without a source"),
        (["real_share=1"], "real_share: got 1, expected number > 0 and < 1"),
    ],
)
def test_what_cannot_be_used_is_told(words: list[str], message: str):
    with pytest.raises(UserError, match=message):
        load_downstream_config("confs/downstream-own.yml", words)
