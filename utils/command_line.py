"""What the command lines share: help, version, and the words `CONF key=value ...`."""

import argparse
from collections.abc import Sequence

from utils.config import key_names, program_of, read_conf, suggestion
from utils.errors import UserError
from utils.manifest import VERSION
from utils.schema.fields import PROJECT, Section
from utils.schema.generation import GenerationConfig

KEYS = "docs/configuration.md lists every key with range and default; `python -m utils.schema.reference` prints it."


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description, and adds the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        none = default is None or default is False or default == argparse.SUPPRESS
        if text is None or none or not action.option_strings or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser for `program`, as users call it; its `description` says what it does and shows an example."""
    parser = argparse.ArgumentParser(program, description=description, formatter_class=_Formatter)
    parser.add_argument("--version", action="version", version=f"CRG-Diffusion {VERSION}")
    return parser


def parse_with_conf(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    schema: type[Section] = GenerationConfig,
    default: str | None = None,
) -> argparse.Namespace:
    """Parse a command line that names a conf: `conf_path` and `overrides` (key=value) besides the parser's options.

    Adds those words and `--conf_path` to `parser`. Raises UserError, with the confs there are, when none is named and
    there is no `default`, and for unknown options, which are often meant to be keys.
    """
    parser.epilog = KEYS
    conf = f"YAML file, first or as --conf_path{f' (default: {default})' if default else ''}"
    add = parser.add_argument
    add("words", nargs="*", metavar="CONF key=value", help=f"{conf}, then keys that replace the file's")
    add("--conf_path", metavar="CONF", help="YAML file with the settings")
    args, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        raise UserError(f"command line: {_hint(unknown[0], argv, schema)}")
    args.overrides = vars(args).pop("words")
    if args.conf_path is None and args.overrides and "=" not in args.overrides[0]:
        args.conf_path = args.overrides.pop(0)
    args.conf_path = args.conf_path or default
    if args.conf_path is None:
        raise UserError(
            f"no conf given; expected one of these, or a file of yours:\n{describe_confs(schema)}"
        )
    return args


def _hint(option: str, argv: Sequence[str], schema: type[Section]) -> str:
    """What to write instead of an option that there is not."""
    name, equals, value = option.partition("=")
    if not equals:
        following = argv[argv.index(option) + 1 :][:1]
        value = following[0] if following and not following[0].startswith("--") else "..."
    key = name.lstrip("-").replace("-", "_")
    names = key_names(schema)
    same = [key] if key in names else [full for full in names if full.split(".")[-1] == key.split(".")[-1]]
    if same:
        return f"got the option {name}; keys of the conf are set without dashes: write {same[0]}={value}"
    return f"unknown option {name}{suggestion(key, schema)}"


def below(least: int, args: argparse.Namespace, *names: str) -> list[str]:
    """A sentence for each of these options that is given and below `least`."""
    values = {name.replace("_", "-"): getattr(args, name) for name in names}
    return [
        f"--{name} must be {least} or more, got {value}"
        for name, value in values.items()
        if value is not None and value < least
    ]


def describe_confs(schema: type[Section]) -> str:
    """A line for each file of confs/ that is for the program with this schema: path and first comment line."""
    lines = []
    for path in sorted((PROJECT / "confs").glob("*.yml")):
        if program_of(read_conf(path)) is schema:
            comment = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
            lines.append(f"  {path.relative_to(PROJECT).as_posix():<32}{comment}")
    return "\n".join(lines)
