"""requirements-oldest.txt names the lower bounds of requirements*.txt, all of them and no other versions."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def versions(name: str, operator: str) -> dict[str, list[int]]:
    """Package -> version, trailing zeros dropped, of the lines `package<operator>version`."""
    found = re.findall(rf"^([\w-]+){operator}([\d.]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {
        package: [int(n) for n in re.sub(r"(\.0)+$", "", version).split(".")] for package, version in found
    }


def test_the_oldest_versions_are_the_lower_bounds():
    bounds = {}
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-eval.txt"):
        bounds |= versions(name, ">=")
    assert len(bounds) > 10 and versions("requirements-oldest.txt", "==") == bounds
