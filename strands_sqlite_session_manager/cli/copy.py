"""Copying sessions between stores, from the shell."""

import argparse
import importlib.metadata
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..catalog import Filter
from ..database import Database
from ..errors import first_line
from ..files import resolve
from . import output
from .errors import CommandError, UsageError

# What is stored in one transaction: sessions, or fewer behind a long one.
_BATCH_SESSIONS = 50
_BATCH_MESSAGES = 1000


@dataclass
class _Report:
    """What was done, and what was not."""

    total: int
    started: float = field(default_factory=time.monotonic)
    copied: int = 0
    messages: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def show(self) -> None:
        """Tell somebody who is looking how far it has come."""
        if output.is_terminal(sys.stderr):
            done = self.copied + self.skipped + len(self.failures)
            print(f"\r{done:,} of {self.total:,} sessions, {self.rate()}   ", end="", file=sys.stderr, flush=True)

    def rate(self) -> str:
        """Return the number of messages, and how many there were in a second."""
        seconds = max(time.monotonic() - self.started, 0.001)
        return f"{self.messages:,} messages, {self.messages / seconds:,.0f} a second"


def copy(arguments: argparse.Namespace) -> None:
    """Copy sessions from one store to another."""
    if bool(arguments.session) == arguments.all:
        raise UsageError("name the sessions to copy, or say --all")
    source = _open(arguments.source, arguments, to_read=True)
    session_ids = list(dict.fromkeys(arguments.session)) or _session_ids(source)
    target = _open(arguments.target, arguments, to_read=False)
    report = _Report(len(session_ids))
    batch: list[Any] = []
    for session_id in session_ids:
        try:
            if arguments.skip_existing and target.read_session(session_id) is not None:
                report.skipped += 1
            else:
                _copy_one(source, target, session_id, batch, report)
        except Exception as error:  # told at the end, with those of the others
            report.failures[session_id] = first_line(error)
        report.show()
    _flush(target, batch, report)
    report.show()
    if output.is_terminal(sys.stderr):
        print(file=sys.stderr)
    for session_id, reason in report.failures.items():
        print(f"failed: {output.safe(session_id)}: {output.safe(reason)}", file=sys.stderr)
    skipped = f", {report.skipped:,} skipped" if report.skipped else ""
    print(f"{report.copied:,} of {report.total:,} sessions copied{skipped}; {report.rate()}")
    if report.failures:
        raise CommandError(f"{len(report.failures):,} of {report.total:,} sessions were not copied")


def _copy_one(source: Any, target: Any, session_id: str, batch: list[Any], report: _Report) -> None:
    from ..copying import copy_session, read_content
    from ..repository import SQLiteSessionRepository

    into_sqlite = isinstance(target, SQLiteSessionRepository)
    if into_sqlite and not isinstance(source, SQLiteSessionRepository):
        batch.append(read_content(source, session_id))
        if len(batch) >= _BATCH_SESSIONS or batch[-1].message_count >= _BATCH_MESSAGES:
            _flush(target, batch, report)
        return
    counted = 0

    def count(done: int, total: int) -> None:
        nonlocal counted
        counted = done

    copy_session(source, target, session_id, progress=count)
    report.copied += 1
    report.messages += counted


def _flush(target: Any, batch: list[Any], report: _Report) -> None:
    """Store what was read, in one transaction."""
    from ..copying import write_contents

    if batch:
        try:
            failures = write_contents(target, batch)
        except Exception as error:  # then none of them is stored
            failures = {content.session.session_id: error for content in batch}
        report.failures |= {session_id: first_line(error) for session_id, error in failures.items()}
        written = [content for content in batch if content.session.session_id not in failures]
        report.copied += len(written)
        report.messages += sum(content.message_count for content in written)
        batch.clear()


def _open(place: str, arguments: argparse.Namespace, *, to_read: bool) -> Any:
    """Open a store by the name that it has on the command line."""
    scheme = place.partition("://")[0].lower() if "://" in place else ""
    if place.startswith("file:"):
        from ..stores import FileSessionRepository

        return FileSessionRepository(place.removeprefix("file:"))
    if scheme == "s3":
        from ..stores import S3SessionRepository

        parts = urlsplit(place)
        return S3SessionRepository(
            parts.netloc, parts.path.strip("/"), region_name=arguments.region, endpoint_url=arguments.endpoint_url
        )
    if scheme in ("postgres", "postgresql") or scheme.startswith("postgresql+"):
        return _open_postgres(place)
    if "://" in place:
        raise UsageError(f"{scheme}:// | is none of file:DIR, s3://BUCKET/PREFIX, postgresql://... and a path")
    from ..repository import SQLiteSessionRepository

    if not to_read:
        return SQLiteSessionRepository(place)
    repository = SQLiteSessionRepository.__new__(SQLiteSessionRepository)
    repository._database = Database(resolve(place), read_only=True)
    return repository


def _open_postgres(url: str) -> Any:
    needed = "strands-postgresql-session-manager"
    try:
        version = re.match(r"(\d+)\.(\d+)", importlib.metadata.version(needed))
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version is None or (int(version[1]), int(version[2])) < (0, 2):
        raise CommandError(f"postgresql:// needs {needed} 0.2 or newer: pip install '{needed}>=0.2' 'sqlmodel<0.0.45'")
    from ..postgres import PostgresSessionRepository

    try:
        return PostgresSessionRepository(url)
    except Exception as error:
        raise CommandError(f"the PostgreSQL server cannot be used: {first_line(error)}") from error


def _session_ids(source: Any) -> list[str]:
    if hasattr(source, "list_session_ids"):
        return list(source.list_session_ids())
    with source._database.transaction(write=False) as connection:
        return [session_id for session_id, _ in reversed(Filter({}).select(connection))]
