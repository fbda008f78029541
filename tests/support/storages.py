"""Strands' storages and ours, what each of them cannot do, and short ways to use them."""

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
from strands.storage import InMemoryStorage, LocalFileStorage, S3Storage
from strands.storage.storage import _NamespacedStorage

from strands_sqlite_session_manager import SQLiteStorage

from .records import query

_T = TypeVar("_T")
_numbers = itertools.count()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in an event loop of its own."""
    return asyncio.run(work)


def namespace(storage: Any, prefix: str) -> Any:
    """Return a view of the keys below a prefix; older versions of Strands have one view for all storages."""
    return storage.namespace(prefix) if hasattr(storage, "namespace") else _NamespacedStorage(storage, prefix)


# -- every kind of storage --


@contextmanager
def in_memory(folder: Path, bucket: str, session: boto3.Session) -> Iterator[Any]:
    yield InMemoryStorage()


@contextmanager
def in_files(folder: Path, bucket: str, session: boto3.Session) -> Iterator[Any]:
    yield LocalFileStorage(str(folder / "storage"))


@contextmanager
def in_s3(folder: Path, bucket: str, session: boto3.Session) -> Iterator[Any]:
    yield S3Storage(bucket, prefix=f"storage-{next(_numbers)}", boto_session=session)


@contextmanager
def in_sqlite(folder: Path, bucket: str, session: boto3.Session) -> Iterator[Any]:
    with SQLiteStorage(folder / "sessions.db", synchronous="NORMAL") as storage:
        yield storage


@contextmanager
def in_a_namespace(folder: Path, bucket: str, session: boto3.Session) -> Iterator[Any]:
    with SQLiteStorage(folder / "sessions.db", synchronous="NORMAL") as storage:
        run(storage.write("other/key", b"of somebody else"))
        yield storage.namespace("ours")


@contextmanager
def in_sqlite_memory(folder: Path, bucket: str, session: boto3.Session) -> Iterator[Any]:
    with SQLiteStorage(":memory:") as storage:
        yield storage


STORAGES: dict[str, Callable[..., Any]] = {
    "memory": in_memory,
    "files": in_files,
    "s3": in_s3,
    "sqlite": in_sqlite,
    "sqlite in memory": in_sqlite_memory,
    "sqlite namespace": in_a_namespace,
}

# The tests of the conformance suite that a storage cannot pass, and why.
CANNOT: dict[str, dict[str, str]] = {
    "memory": {},
    "files": {
        "test_a_key_can_be_the_beginning_of_another": "a name is a file or a folder",
        "test_a_single_dot_is_a_part_like_any_other": "`.` is the folder itself",
        "test_a_key_can_be_long": "a name has at most 255 bytes",
        "test_a_key_can_hold_control_characters": "a name holds no NUL",
        "test_no_name_is_reserved": "names that begin with .__strands_ are its own",
    },
    # A real S3 refuses keys of more than 1,024 bytes; that of these tests does not.
    "s3": {},
    "sqlite": {},
    "sqlite in memory": {},
    "sqlite namespace": {},
}


# -- snapshots --

_WORDS = [f"{word}{number}" for word in ("sail", "harbor", "wind", "chart", "anchor") for number in range(300)]


def conversation(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return messages of about 450 bytes each, as an agent holds them."""
    rng = random.Random(seed)
    return [
        {
            "role": "user" if number % 2 == 0 else "assistant",
            "content": [{"text": " ".join(rng.choice(_WORDS) for _ in range(55))}],
        }
        for number in range(count)
    ]


def snapshot(messages: list[dict[str, Any]], second: int = 0, **data: Any) -> bytes:
    """Return the bytes that `SnapshotSessionManager` stores of these messages, saved at some second."""
    held = {"messages": messages, "state": {}, "conversation_manager_state": {"removed_message_count": 0}, **data}
    front = {
        "scope": "agent",
        "schema_version": "1.0",
        "created_at": f"2026-05-01T10:{second // 60:02}:{second % 60:02}.000001Z",
    }
    return json.dumps({**front, "data": held, "app_data": {}}, ensure_ascii=False).encode()


def counts(path: Path) -> tuple[int, int, int]:
    """Return how many keys, parts and blocks a file holds."""
    (row,) = query(
        path,
        "SELECT (SELECT count(*) FROM storage_values), (SELECT count(*) FROM storage_parts),"
        " (SELECT count(*) FROM storage_blocks)",
    )
    return row  # type: ignore[return-value]


def stored_bytes(path: Path) -> int:
    """Return how many bytes the blocks of a file have."""
    return int(query(path, "SELECT coalesce(sum(length(data)), 0) FROM storage_blocks")[0][0])


def wal_size(path: Path) -> int:
    """Return how long the write-ahead log of a file is."""
    wal = Path(f"{path}-wal")
    return wal.stat().st_size if wal.exists() else 0
