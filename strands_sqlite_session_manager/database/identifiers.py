"""Which ids of sessions, agents, orchestrators and messages are valid."""

import os
from functools import lru_cache

LAST_MESSAGE_ID = 2**63 - 2
"""One less than SQLite's largest integer, since `context` names the id that comes next."""


@lru_cache(maxsize=4096)
def validate_id(value: str, kind: str) -> str:
    """Return an id that every Strands session store can hold.

    The rule and its wording are upstream's (`strands._identifier`); empty ids are refused as well.

    Args:
        value: The id.
        kind: What it identifies: `session` or `agent` (which upstream also uses for orchestrators).

    Raises:
        TypeError: If the id is not a string.
        ValueError: If it is empty or blank, holds a path separator, or is not valid Unicode.
    """
    if not isinstance(value, str):
        raise TypeError(f"{kind}_id=<{value!r}> | id must be a string")
    if not value.strip():
        raise ValueError(f"{kind}_id={value} | id cannot be empty or blank")
    if os.path.basename(value) != value:
        raise ValueError(f"{kind}_id={value} | id cannot contain path separators")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{kind}_id={value!r} | id cannot contain lone surrogates") from error
    return value


def validate_message_id(value: int) -> int:
    """Return a message id that SQLite can hold and that leaves room for the next one.

    Raises:
        ValueError: If it is not an integer, or out of range.
    """
    if not isinstance(value, int):
        raise ValueError(f"message_id=<{value}> | message id must be an integer")
    if not -(2**63) <= value <= LAST_MESSAGE_ID:
        raise ValueError(f"message_id=<{value}> | message id must lie between -2**63 and 2**63 - 2")
    return value
