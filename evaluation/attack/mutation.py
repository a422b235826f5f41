"""Files broken at random: text by hostile values in place of its own, any file byte by byte."""

import os
import random
import re
from collections.abc import Callable

# What takes the place of a number, a name or a line. The first are refused by nearly every schema, the last are
# valid somewhere and mean nothing.
HOSTILE = [
    "1e308",
    "-1e308",
    "1e-300",
    "nan",
    ".inf",
    "-1",
    "0",
    "1.5",
    "1e9",
    "1000000000",
    "2147483648",
    "9" * 400,
    *(
        "null",
        "true",
        "[]",
        "{}",
        '""',
        "''",
        "~",
        "!!int ''",
        "0x_",
        "2001-13-01",
        "1:99:99",
        "0b",
        "!!binary x",
    ),
    *(
        "[" * 3000,
        "{" * 2000,
        '{"a":' * 3000,
        "&a [*a]",
        "*b",
        "? [a, b]\n: 1",
        "!!python/object:os.system x",
    ),
    *(
        "../../../../evil",
        "/etc/hostname",
        "a\0b",
        "\ud800",
        '"\\ud800"',
        "\x1b[31m",
        "é" * 300,
        "x" * 5000,
        "%s%n",
    ),
    "0 0.5",
    "0 0.5 0.5",
    "99 0.5 0.5 0.1 0.1",
    "0 2 2 2 2",
    "0 nan nan",
    "0 0.5 0.5 1e-300 1e-300",
]
NAMES = (b"\xff\xfe", b"\x80", b" ", b"\n", b"-", b"--out", b".", b"~", b"$HOME", b"%2e%2e", b"con", b"*")
LONGEST_NAME = 250  # bytes
ALIAS_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
VALUE = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|-?\d[\d.e+-]*|[A-Za-z_]\w*")
LARGEST = 2**20  # bytes that a broken file may have more than the whole one
TEXT = 2**14  # bytes at the beginning of a file that are taken for text

Mutation = Callable[[bytes, random.Random], bytes]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to three random changes."""
    longest = len(content) + LARGEST
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        content = chance.choice(MUTATIONS)(content, chance)
    return content[:longest]


def hostile(chance: random.Random) -> bytes:
    """A hostile value; lone surrogates become bytes that are no UTF-8."""
    return chance.choice(HOSTILE).encode("utf-8", "surrogatepass")


def hostile_name(name: str, chance: random.Random) -> str:
    """A file's name with a hostile value in place of its stem, or around it; bytes that are no UTF-8 are escaped as the
    system's are."""
    stem, dot, suffix = name.partition(".")
    value = chance.choice((hostile(chance), *NAMES)).replace(b"\0", b"").replace(b"/", b"")
    made = chance.choice((value, value + stem.encode(), stem.encode() + value))
    longest = LONGEST_NAME - len(dot + suffix)
    whole = made[:longest] + (dot + suffix).encode()
    return os.fsdecode(b"-" if whole in (b"", b".", b"..") else whole)


def _value_replaced(content: bytes, chance: random.Random) -> bytes:
    text = content[:TEXT].decode("latin-1")
    values = list(VALUE.finditer(text))
    if not values:
        return hostile(chance)
    start, end = chance.choice(values).span()
    return content[:start] + hostile(chance) + content[end:]


def _bytes_flipped(content: bytes, chance: random.Random) -> bytes:
    broken = bytearray(content or b"\0")
    for _ in range(chance.randint(1, 8)):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    return bytes(broken)


def _cut_short(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randint(0, len(content))]


def _part_doubled(content: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(content))
    end = chance.randint(start, len(content))
    return content[:end] + content[start:end] + content[end:]


def _part_left_out(content: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(content))
    return content[:start] + content[chance.randint(start, len(content)) :]


def _line_added(content: bytes, chance: random.Random) -> bytes:
    ends = [0, *(match.end() for match in re.finditer(b"\n", content[:TEXT]))]
    place = chance.choice(ends)
    return content[:place] + hostile(chance) + b"\n" + content[place:]


def _replaced(content: bytes, chance: random.Random) -> bytes:
    whole = (
        hostile(chance),
        chance.randbytes(chance.randint(0, 200)),
        ALIAS_BOMB.encode(),
        b"\xff\xfe" + content,
    )
    return chance.choice(whole)


MUTATIONS: tuple[Mutation, ...] = (
    *([_value_replaced] * 5),
    _bytes_flipped,
    _cut_short,
    _part_doubled,
    _part_left_out,
    _line_added,
    _replaced,
)
