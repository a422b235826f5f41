"""The reference of all keys of the configuration files, as Markdown.

    python -m utils.schema.reference > docs/configuration.md

A test compares that file with the schema.
"""

import sys
from typing import Any

from utils.command_line import make_parser
from utils.config import IGNORED, fields, flat_shape, flatten
from utils.errors import run_main
from utils.schema.downstream import DownstreamConfig
from utils.schema.generation import GenerationConfig
from utils.schema.network import DiffusionConfig, NetworkConfig
from utils.schema.problems import expected_values, properties, show_value
from utils.schema.training import TrainingConfig


def main(argv: list[str]) -> None:
    make_parser("python -m utils.schema.reference", __doc__).parse_args(argv)
    print(config_reference(), end="")


def config_reference() -> str:
    """Markdown tables of all keys: type and range, default, meaning."""
    parts = [_REFERENCE_HEAD]
    for title, cfg in (
        ("Generation (`sample_generation.py`)", GenerationConfig()),
        ("Training (`train.py`)", TrainingConfig()),
        ("Experiment (`python -m evaluation.downstream`)", DownstreamConfig()),
    ):
        defaults = dict(flatten(flat_shape(cfg)))
        rows = []
        own_keys_first = sorted(fields(type(cfg)), key=lambda row: row[1] in (NetworkConfig, DiffusionConfig))
        for key, section, name in own_keys_first:
            info = properties(section)[name]
            default = info.get("default_text") or f"`{_default_text(defaults[key])}`"
            rows.append(f"| `{key}` | {expected_values(info)} | {default} | {info['description']} |")
        ignored = ", ".join(f"`{key}`" for key in IGNORED[type(cfg)])
        parts += [f"## {title}", "\n".join([_TABLE_HEAD, *rows])]
        parts += [f"Accepted and ignored: {ignored}."] if ignored else []
    return "\n\n".join(parts) + "\n"


def _default_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(part if isinstance(part, str) else f"{part:g}" for part in value) or "[]"
    return str(value) if isinstance(value, str) and value else ("''" if value == "" else show_value(value))


_TABLE_HEAD = "| Key | Type and range | Default | Meaning |\n|---|---|---|---|"
_REFERENCE_HEAD = """# Configuration keys

Written by `python -m utils.schema.reference > docs/configuration.md`; edit `utils/schema/` instead.

Any key can be set on the command line as `key=value`, with dots for groups (`ddim.start_step=60`).
No whole number may be above a million (numbers of steps: a thousand million; seeds: 2^63 - 1), no other number
above 1e9, no list longer than 16.
Lists may be YAML lists or strings (`'16, 8'`), numbers may be strings (`'1e-4'`). Keys of a group are written
below its name, as in `confs/pcb_gen.yml`; the schedule keys may also stand directly under `ddim`. An unknown
key stops the run. `crop` holds the defect prior's network, the network keys at the top level are the
contextual model's.

Weights that `train.py` wrote contain the options of their network, so a generation file may leave the network keys
out, here and under `crop`. A conflicting one stops the run; only `image_size`, `dropout` and
`use_checkpoint` may differ. With another `image_size`, `attention_resolutions` that are left out follow it, so that
attention stays at the same depth of the network. They also contain the diffusion process (`diffusion_steps`,
`noise_schedule`, `predict_xstart`, `rescale_timesteps`), the range of t trained on and the classes: what is left out
is taken from them, a conflicting value stops the run, and so does a `start_step` beyond that range. Priors that see
their surroundings contain the contrast of the defects that they were trained on, too, for `start_step: auto`. The
defaults below are for weights without metadata, such as the published ones."""


if __name__ == "__main__":
    sys.exit(run_main(main))
