"""Imports run one way; the sources are parsed, nothing is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Floors, bottom up: a module imports from its own package and from lower floors.
FLOORS = {
    "utils": 1,
    "guided_diffusion": 2,
    "generation": 3,
    "training": 3,
    "sample_generation": 4,
    "train": 4,
}
FLOORS |= {"evaluation": 5, "benchmarks": 5, "tests": 6}
PACKAGES = ("utils", "guided_diffusion", "generation", "training", "evaluation", "benchmarks")
LEAVES = (
    "unet",
    "frozen",
    "respace",
    "timesteps",
    "gaussian_diffusion",
    "losses",
    "attention_mask",
    "resample",
    "transfer",
)

# What each module of guided_diffusion may import of the project; the others are bound by the package's rule.
ALLOWED = {f"guided_diffusion.{leaf}": set() for leaf in LEAVES}
ALLOWED["guided_diffusion.unet"] = {"guided_diffusion.frozen"}
ALLOWED["guided_diffusion.attention_mask"] = {"guided_diffusion.transfer"}
ALLOWED["guided_diffusion.gaussian_diffusion"] = {"guided_diffusion.losses", "guided_diffusion.respace"}
ALLOWED["guided_diffusion.windows"] = {"guided_diffusion.transfer"}
ALLOWED["guided_diffusion.refinement"] = {
    "guided_diffusion.gaussian_diffusion",
    "guided_diffusion.transfer",
    "guided_diffusion.windows",
}
ALLOWED["guided_diffusion.ddim"] = {f"guided_diffusion.{leaf}" for leaf in (*LEAVES, "windows", "refinement")}


def imported_modules(source: str, module: str) -> Iterator[str]:
    """Dotted names that the source text of `module` imports, relative ones resolved."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import x` may bring in the submodule package.x.
            if name in PACKAGES:
                yield from (f"{name}.{alias.name}" for alias in node.names)
            else:
                yield name


def forbidden_imports(source: str, module: str) -> list[str]:
    """The project modules that `module` imports against the rules."""
    package = module.split(".")[0]
    project = [name for name in imported_modules(source, module) if name.split(".")[0] in FLOORS]
    if module in ALLOWED:
        return [name for name in project if name not in ALLOWED[module]]
    floor = FLOORS[package]
    others = [name for name in project if name.split(".")[0] != package]
    above = [name for name in others if FLOORS[name.split(".")[0]] > floor]
    if floor < 5:  # only evaluation and benchmarks may use each other
        above += [name for name in others if FLOORS[name.split(".")[0]] == floor]
    if package == "guided_diffusion":  # takes plain arguments, never the configuration
        above += [name for name in project if name.startswith(("utils.config", "utils.schema"))]
    return above


def sources() -> dict[str, Path]:
    """Module name -> file, for every module of the project but the tests."""
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    files += [ROOT / "sample_generation.py", ROOT / "train.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def test_imports_run_one_way():
    modules = sources()
    assert len(modules) >= 6
    assert "guided_diffusion.attention_mask" in modules
    problems = {
        module: found
        for module, path in modules.items()
        if (found := forbidden_imports(path.read_text(encoding="utf-8"), module))
    }
    assert problems == {}


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("utils.labels", "import guided_diffusion.ddim", ["guided_diffusion.ddim"]),
        ("utils.labels", "from utils.errors import UserError", []),
        ("utils.labels", "def f():\n    from train import main", ["train"]),
        ("guided_diffusion.create", "from training.setup import x", ["training.setup"]),
        ("guided_diffusion.create", "from utils.schema.network import x", ["utils.schema.network"]),
        ("training.loop", "from generation import jobs\nimport utils.images", ["generation.jobs"]),
        ("training.loop", "import train", ["train"]),
        ("train", "import sample_generation, training.loop", ["sample_generation"]),
        ("evaluation.hits", "import train, benchmarks.measure, tests.builders", ["tests.builders"]),
        ("guided_diffusion.unet", "from . import losses", ["guided_diffusion.losses"]),
        ("guided_diffusion.unet", "import torch.utils.checkpoint", []),
        ("guided_diffusion.gaussian_diffusion", "from guided_diffusion import losses", []),
        ("guided_diffusion.refinement", "from .ddim import sample", ["guided_diffusion.ddim"]),
        ("guided_diffusion.ddim", "from guided_diffusion.refinement import refine", []),
        ("guided_diffusion.ddim", "from utils.config import load", ["utils.config"]),
        ("guided_diffusion.train_util", "import utils.logger, utils.config", ["utils.config"]),
    ],
)
def test_the_rule_itself(module, source, found):
    assert forbidden_imports(source, module) == found
