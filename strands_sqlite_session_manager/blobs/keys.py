"""Keys and their prefixes, as in the storages that Strands ships.

`/` separates the parts of a key. Runs of it count as one, those at the ends as none, and `..` is not allowed as a part.
A prefix may end in the middle of a part: `ada` is a prefix of `ada/notes.md` and `adam.md`, and `ada/` only of the
first.
"""

import re


def normalize_key(key: str) -> str:
    """Return the normalized form of a key.

    Raises:
        TypeError: If it is not a string.
        ValueError: If it is empty, or holds a backslash or a part `..`.
    """
    normalized = normalize_prefix(key, "key").rstrip("/")
    if not normalized:
        raise ValueError("key | a storage key cannot be empty")
    return normalized


def normalize_prefix(prefix: str, name: str = "prefix") -> str:
    """Return the normalized form of a prefix, which keeps the `/` at its end.

    Args:
        prefix: The prefix; an empty one is a prefix of all keys.
        name: What to call it in an error.

    Raises:
        TypeError: If it is not a string.
        ValueError: If it holds a backslash or a part `..`.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"{name}=<{prefix!r}> | must be a string")
    if "\\" in prefix:
        raise ValueError(f"{name}=<{prefix}> | cannot hold backslashes")
    normalized = re.sub("/+", "/", prefix).lstrip("/")
    if ".." in normalized.split("/"):
        raise ValueError(f"{name}=<{prefix}> | cannot hold a part '..'")
    return normalized


def check_storable(key: str) -> None:
    """Refuse a key that SQLite cannot hold.

    Raises:
        ValueError: If it holds a lone surrogate, which has no form in UTF-8.
    """
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"key=<{key!r}> | cannot hold lone surrogates") from error


def encode(key: str) -> bytes:
    """Return the UTF-8 bytes of a key or a prefix; a lone surrogate gives bytes that no stored key has."""
    return key.encode("utf-8", "surrogatepass")


def key_range(prefix: str) -> tuple[bytes, bytes]:
    """Return the range of UTF-8 bytes of the keys with a prefix: the first is included, the second is not.

    SQLite compares text by its bytes, which gives the order of code points, as in Python. The byte `0xff` sorts after
    every character, and is part of none.
    """
    return encode(prefix), encode(prefix) + b"\xff"
