"""SQLCipher connections, as people pass them to `connect`."""

import sqlite3
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

KEY = "2b7e151628aed2a6abf7158809cf4f3c" * 2


def connect_encrypted(path: str) -> sqlite3.Connection:
    """Open a connection whose pages are encrypted by `KEY`."""
    return _connect(path, KEY)


def connect_with_another_key(path: str) -> sqlite3.Connection:
    """Open a connection with a key that is not that of the file."""
    return _connect(path, KEY[::-1])


def _connect(path: str, key: str) -> Any:
    connection = sqlcipher.connect(path, check_same_thread=False)
    connection.execute("PRAGMA cipher_log_level = NONE")  # it would report every wrong key on standard error
    connection.execute(f"PRAGMA key = \"x'{key}'\"")
    return connection
