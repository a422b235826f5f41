"""Seeds from what they are for."""

import hashlib


def sample_seed(seed: int, *identity: object) -> int:
    """A 63-bit seed from the run's seed and whatever identifies a sample (image name, annotation, index)."""
    text = "\x1f".join(str(part) for part in (seed, *identity))
    # File names may hold bytes that are no UTF-8, which Python keeps as surrogates
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
