"""Imports run one way; the sources are parsed, nothing is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Floors, bottom up: a module imports from its own package and from lower floors, never from beside or above.
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
    "rows",
)

# What each module of guided_diffusion may import of the project; the others are bound by the package's rule.
ALLOWED = {f"guided_diffusion.{leaf}": set() for leaf in LEAVES}
ALLOWED["guided_diffusion.unet"] = {"guided_diffusion.frozen"}
ALLOWED["guided_diffusion.attention_mask"] = {"guided_diffusion.transfer"}
ALLOWED["guided_diffusion.gaussian_diffusion"] = {"guided_diffusion.losses", "guided_diffusion.respace"}
ALLOWED["guided_diffusion.surroundings"] = {"guided_diffusion.gaussian_diffusion", "guided_diffusion.rows"}
ALLOWED["guided_diffusion.windows"] = {
    "guided_diffusion.rows",
    "guided_diffusion.surroundings",
    "guided_diffusion.transfer",
}
ALLOWED["guided_diffusion.refinement"] = {
    "guided_diffusion.gaussian_diffusion",
    "guided_diffusion.rows",
    "guided_diffusion.transfer",
    "guided_diffusion.windows",
}
ALLOWED["guided_diffusion.ddim"] = {
    f"guided_diffusion.{name}" for name in (*LEAVES, "surroundings", "windows", "refinement")
}


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
    others = [name for name in project if name.split(".")[0] != package]
    if package == "guided_diffusion":  # plain arguments and tensors, neither configuration nor files
        return [name for name in others if name != "utils.images"]
    return [name for name in others if FLOORS[name.split(".")[0]] >= FLOORS[package]]


def cycles(imports: dict[str, set[str]]) -> set[str]:
    """The modules that lie on a cycle of imports, or depend on one; `imports` holds module -> modules."""
    rest = dict(imports)
    while free := [module for module, needed in rest.items() if not needed & rest.keys()]:
        for module in free:
            del rest[module]
    return set(rest)


def sources() -> dict[str, Path]:
    """Module name -> file, for every module of the project but the tests."""
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    files += [ROOT / "sample_generation.py", ROOT / "train.py"]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files)
    return dict(zip((name.removesuffix(".__init__") for name in names), files, strict=True))


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


def test_no_module_imports_itself_by_a_detour():
    modules = sources()
    imports = {
        module: set(imported_modules(path.read_text(encoding="utf-8"), module)) & modules.keys()
        for module, path in modules.items()
    }
    assert cycles(imports) == set()


def test_a_cycle_is_found_through_any_number_of_modules():
    imports = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set(), "e": {"d"}}
    assert cycles(imports) == {"a", "b", "c"}
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == set()


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
        ("generation.run", "import utils.files, guided_diffusion.ddim", []),
        ("generation.run", "from training.loop import x\nimport train", ["training.loop", "train"]),
        ("generation.placement.plan", "import sample_generation", ["sample_generation"]),
        ("sample_generation", "from generation.run import paint\nimport evaluation", ["evaluation"]),
        ("evaluation.hits", "import train, tests.builders", ["tests.builders"]),
        ("evaluation.hits", "import benchmarks.measure", ["benchmarks.measure"]),
        ("guided_diffusion.unet", "from . import losses", ["guided_diffusion.losses"]),
        ("guided_diffusion.unet", "import torch.utils.checkpoint", []),
        ("guided_diffusion.gaussian_diffusion", "from guided_diffusion import losses", []),
        ("guided_diffusion.refinement", "from .ddim import sample", ["guided_diffusion.ddim"]),
        ("guided_diffusion.ddim", "from guided_diffusion.refinement import refine", []),
        ("guided_diffusion.ddim", "from utils.config import load", ["utils.config"]),
        ("guided_diffusion.create", "import utils.images, utils.files", ["utils.files"]),
        ("training.train_loop", "import utils.files, utils.config", []),
    ],
)
def test_the_rule_itself(module, source, found):
    assert forbidden_imports(source, module) == found
