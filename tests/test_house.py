"""The measures of the code base: sizes of modules, folders and functions, and one name for one public type."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("utils", "guided_diffusion", "generation", "training", "evaluation", "benchmarks")

LINES_OF_MODULE = 400
MODULES_OF_FOLDER = 16
LINES_OF_FUNCTION = 60  # the longest; nearly all keep within the usual length
USUAL_LINES, USUAL_SHARE = 40, 0.98
PARAMETERS = 6  # beside self

# Functions with more parameters: constructors of plain data, and those that mirror the configuration's keys.
MANY_PARAMETERS = {
    "guided_diffusion/create.py: create_diffusion",
    "guided_diffusion/create.py: create_unet",
    "guided_diffusion/gaussian_diffusion.py: GaussianDiffusion.__init__",
    "guided_diffusion/timesteps.py: sampling_timesteps",
    "guided_diffusion/unet.py: ResBlock.__init__",
    "guided_diffusion/unet.py: UNetModel.__init__",
    "training/image_datasets.py: StepSampler.__init__",
}


def modules() -> Iterator[tuple[str, str]]:
    """Path and source text of every module but the tests."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for name in ("sample_generation.py", "train.py"):
        yield name, (ROOT / name).read_text(encoding="utf-8")


def functions(source: str, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Dotted name and node of every function of a module, methods and inner functions included."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name, child
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from visit(child, f"{prefix}{child.name}.")
            else:
                yield from visit(child, prefix)

    return visit(ast.parse(source), prefix)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return node.end_lineno - node.lineno + 1


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = node.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def public_types(source: str) -> Iterator[str]:
    """Classes of a module, and aliases such as `Size = tuple[int, int]`, without leading underscore."""
    for node in ast.parse(source).body:
        name = ""
        if isinstance(node, ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        if name[:1].isupper() and not name.isupper():
            yield name


def test_modules_are_short():
    lengths = {path: len(text.splitlines()) for path, text in modules()}
    assert not {path: count for path, count in lengths.items() if count > LINES_OF_MODULE}


def test_folders_hold_few_modules():
    counts = Counter(str(Path(path).parent) for path, _ in modules() if not path.endswith("__init__.py"))
    assert not {folder: count for folder, count in counts.items() if count > MODULES_OF_FOLDER}


def test_functions_are_short():
    lengths = {f"{path}: {name}": length(node) for path, text in modules() for name, node in functions(text)}
    assert not {name: count for name, count in lengths.items() if count > LINES_OF_FUNCTION}
    within = sum(count <= USUAL_LINES for count in lengths.values())
    assert within >= USUAL_SHARE * len(lengths)


def test_functions_take_few_parameters():
    many = {
        f"{path}: {name}"
        for path, text in modules()
        for name, node in functions(text)
        if parameters(node) > PARAMETERS
    }
    assert many == MANY_PARAMETERS


def test_no_two_public_types_share_a_name():
    counts = Counter(name for _, text in modules() for name in public_types(text))
    assert [name for name, count in counts.items() if count > 1] == []


def test_the_measures_themselves():
    source = (
        "Size = tuple[int, int]\nLIMIT = 3\nclass Ab:\n    def f(self, a, *, b):\n"
        "        def inner(c): pass\n        return inner\nclass _B: pass\nx = 1\n"
    )
    assert list(public_types(source)) == ["Size", "Ab"]
    found = {name: (length(node), parameters(node)) for name, node in functions(source)}
    assert found == {"Ab.f": (3, 2), "Ab.f.inner": (1, 1)}
