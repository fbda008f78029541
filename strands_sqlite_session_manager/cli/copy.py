"""The command that copies sessions between stores."""

import argparse
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..database.database import Database
from ..sessions.listing import Filter
from . import output
from .errors import CommandError, UsageError
from .opening import connect_function
from .selection import selected_sessions
from .summaries import counted

if TYPE_CHECKING:
    from strands.session.session_repository import SessionRepository

    from ..transfer.content import Content

# One transaction stores at most this many sessions, and ends after a session with this many messages.
_BATCH_SESSIONS = 50
_BATCH_MESSAGES = 1000

# What other stores cannot hold, and the tables that hold it.
_OURS = {"the metadata": ("session_metadata",), "the checkpoints": ("agent_versions", "message_versions")}


def copy(arguments: argparse.Namespace) -> None:
    """Copy sessions from one store to another."""
    selected = selected_sessions(arguments, "copy")
    with _opened(arguments.source, arguments, read_only=True) as source:
        session_ids = _session_ids(source, selected) if isinstance(selected, Filter) else selected
        if not session_ids and arguments.all:
            raise CommandError(f"{_place(source)} | there are no sessions")
        with _opened(arguments.target, arguments, read_only=False) as target:
            copying = _Copying(source, target, len(session_ids))
            for session_id in session_ids:
                copying.copy(session_id, skip_existing=arguments.skip_existing)
            copying.finish()


class _Copying:
    """Copies sessions one after the other, and records what was copied and what was not."""

    def __init__(self, source: "SessionRepository", target: "SessionRepository", total: int) -> None:
        from ..transfer.content import database_of

        self._source = source
        self._target = target
        self._source_database = database_of(source)
        self._target_database = database_of(target)
        # Sessions from another store are collected, so that one transaction writes several.
        self._is_batched = self._target_database is not None and self._source_database is None
        self._batch: list[Content] = []
        self._total = total
        self._started = time.monotonic()
        self._copied = self._messages = self._skipped = 0
        self._failures: dict[str, str] = {}
        self._left_behind: Counter[str] = Counter()

    def copy(self, session_id: str, *, skip_existing: bool) -> None:
        """Copy a session, now or with the next ones."""
        try:
            if skip_existing and self._target.read_session(session_id) is not None:
                self._skipped += 1
            elif self._is_batched:
                self._add_to_batch(session_id)
            else:
                self._copy_now(session_id)
        except Exception as error:  # reported at the end; the other sessions are copied
            self._fail(session_id, error)
        self._show_progress()

    def finish(self) -> None:
        """Write what is left and report.

        Raises:
            CommandError: If sessions were not copied.
        """
        self._write_batch()
        self._show_progress()
        if output.is_terminal(sys.stderr):
            print(file=sys.stderr)
        for session_id, reason in self._failures.items():
            print(f"failed: {output.safe(session_id)}: {output.safe(reason)}", file=sys.stderr)
        skipped = f", {self._skipped:,} skipped" if self._skipped else ""
        print(f"{self._copied:,} of {self._total:,} sessions copied{skipped}; {self._rate()}")
        for what, count in self._left_behind.items():
            if count:
                print(f"left behind, since the target cannot hold it: {what} of {counted(count, 'session')}")
        if self._failures:
            raise CommandError(f"{len(self._failures):,} of {self._total:,} sessions were not copied")

    def _copy_now(self, session_id: str) -> None:
        from ..transfer.copy import copy_session

        copied = 0

        def count(done: int, total: int) -> None:
            nonlocal copied
            copied = done

        left_behind = self._unknown_to_the_target(session_id)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what stays behind is reported at the end, for all sessions
            copy_session(self._source, self._target, session_id, progress=count)
        self._left_behind.update(left_behind)
        self._copied += 1
        self._messages += copied

    def _unknown_to_the_target(self, session_id: str) -> list[str]:
        """Return what the target cannot hold of a session."""
        from ..transfer.snapshots import SnapshotRepository

        if isinstance(self._source, SnapshotRepository):
            return [] if isinstance(self._target, SnapshotRepository) else self._source.left_behind(session_id)
        if self._source_database is None or self._target_database is not None:
            return []
        queries = {what: [f"SELECT 1 FROM {table} WHERE session_id = ?" for table in _OURS[what]] for what in _OURS}
        if isinstance(self._target, SnapshotRepository):
            queries["the rest of the history"] = [
                "SELECT 1 FROM agents WHERE session_id = ? AND context <> '[[0, null]]'"
            ]
        return [
            what
            for what, selects in queries.items()
            if any(self._source_database.read(f"{select} LIMIT 1", (session_id,)) for select in selects)
        ]

    def _add_to_batch(self, session_id: str) -> None:
        from ..transfer.content import read_content

        content = read_content(self._source, session_id)
        self._left_behind.update(self._unknown_to_the_target(session_id))
        self._batch.append(content)
        if len(self._batch) >= _BATCH_SESSIONS or content.message_count >= _BATCH_MESSAGES:
            self._write_batch()

    def _write_batch(self) -> None:
        from ..transfer.copy import write_contents

        if not self._batch or self._target_database is None:
            return
        batch, self._batch = self._batch, []
        try:
            failures = write_contents(self._target_database, batch)
        except Exception as error:  # then none of them is stored
            failures = {content.session.session_id: error for content in batch}
        for session_id, failure in failures.items():
            self._fail(session_id, failure)
        written = [content for content in batch if content.session.session_id not in failures]
        self._copied += len(written)
        self._messages += sum(content.message_count for content in written)

    def _fail(self, session_id: str, error: Exception) -> None:
        from ..errors import first_line

        self._failures[session_id] = first_line(error)

    def _show_progress(self) -> None:
        if output.is_terminal(sys.stderr):
            done = self._copied + self._skipped + len(self._failures)
            print(f"\r{done:,} of {self._total:,} sessions, {self._rate()}   ", end="", file=sys.stderr, flush=True)

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._started, 0.001)
        return f"{self._messages:,} messages, {self._messages / seconds:,.0f} a second"


@contextmanager
def _opened(place: str, arguments: argparse.Namespace, *, read_only: bool) -> Iterator[Any]:
    store = _open(place, arguments, read_only=read_only)
    try:
        yield store
    finally:
        if hasattr(store, "close"):
            store.close()


def _open(place: str, arguments: argparse.Namespace, *, read_only: bool) -> Any:
    """Open a store by its name on the command line; `read_only` matters to a SQLite file only."""
    scheme = place.partition("://")[0].lower() if "://" in place else ""
    if place.startswith("snapshots:"):
        return _open_snapshots(place.removeprefix("snapshots:"), arguments)
    if place.startswith("file:"):
        from ..transfer.stores import FileSessionRepository

        return FileSessionRepository(place.removeprefix("file:"))
    if scheme == "s3":
        from ..transfer.stores import S3SessionRepository

        parts = urlsplit(place)
        return S3SessionRepository(
            parts.netloc, parts.path.strip("/"), region_name=arguments.region, endpoint_url=arguments.endpoint_url
        )
    if scheme in ("postgres", "postgresql") or scheme.startswith("postgresql+"):
        return _open_postgres(place)
    if "://" in place and scheme != "sqlite":  # opening that one says how to write it
        raise UsageError(
            f"{scheme}:// | unsupported; use file:DIR, s3://BUCKET/PREFIX, snapshots:PLACE, postgresql://... or a path"
        )
    from ..repository import SQLiteSessionRepository

    return SQLiteSessionRepository(place, read_only=read_only, connect=connect_function(arguments.connect))


def _open_snapshots(place: str, arguments: argparse.Namespace) -> Any:
    from ..transfer.snapshots import SnapshotRepository

    try:
        from strands.storage import LocalFileStorage, S3Storage
    except ImportError:
        raise CommandError(
            "snapshots: needs strands-agents 1.51 or newer: pip install 'strands-agents>=1.51'"
        ) from None
    if place.startswith("s3://"):
        parts = urlsplit(place)
        if arguments.endpoint_url:
            os.environ["AWS_ENDPOINT_URL_S3"] = arguments.endpoint_url  # Strands' storage reads it only from there
        return SnapshotRepository(S3Storage(parts.netloc, prefix=parts.path.strip("/"), region_name=arguments.region))
    if os.path.isdir(place) or not (os.path.isfile(place) or place.endswith((".db", ".sqlite", ".sqlite3"))):
        return SnapshotRepository(LocalFileStorage(place))
    from ..storage import SQLiteStorage

    return SnapshotRepository(SQLiteStorage(place))


def _open_postgres(url: str) -> Any:
    import importlib.metadata  # takes longer to import than most commands take to run

    from ..errors import first_line

    needed = "strands-postgresql-session-manager"
    try:
        version = re.match(r"(\d+)\.(\d+)", importlib.metadata.version(needed))
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version is None or (int(version[1]), int(version[2])) < (0, 2):
        raise CommandError(f"postgresql:// needs {needed} 0.2 or newer: pip install '{needed}>=0.2' 'sqlmodel<0.0.45'")
    from ..transfer.postgres import PostgresSessionRepository

    try:
        return PostgresSessionRepository(url)
    except Exception as error:
        raise CommandError(f"the PostgreSQL server cannot be used: {first_line(error)}") from error


def _session_ids(source: Any, selected: Filter) -> list[str]:
    from ..transfer.content import database_of

    database: Database | None = database_of(source)
    if database is not None:
        return [session_id for session_id, _ in reversed(database.snapshot(selected.select))]
    if selected.metadata:
        raise UsageError("--metadata selects sessions of a SQLite file: other stores hold no metadata")
    return list(source.list_session_ids())


def _place(source: Any) -> str:
    """Return where a source keeps its sessions, in its own notation."""
    from ..transfer.content import database_of

    database = database_of(source)
    if database is not None:
        return database.path
    if hasattr(source, "bucket"):
        return f"s3://{source.bucket}/{source.prefix.strip('/')}/session_*".replace("//session_", "/session_")
    if hasattr(source, "storage_dir"):
        return os.path.join(source.storage_dir, "session_*")
    return "the source"
