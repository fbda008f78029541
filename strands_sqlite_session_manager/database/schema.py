"""The schema of a file: its triggers and indexes, its version, and the migrations to it."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress

from .. import errors
from . import files, legacy
from .tables import STORAGE_TABLES, TABLES
from .transactions import transact
from .views import VIEWS

# "StSS": marks the file as ours in its header (https://sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x53745353
PAGE_SIZE = 4096  # bytes; `python -m tests.benchmarks table` compares sizes

_INDEXES = (
    "CREATE INDEX sessions_by_activity ON sessions (active_at, session_id)",
    "CREATE INDEX session_metadata_by_value ON session_metadata (key, value, session_id)",
    "CREATE INDEX sessions_by_origin ON sessions (forked_from, session_id) WHERE forked_from IS NOT NULL",
    "CREATE INDEX storage_parts_by_block ON storage_parts (block_id)",
)


def _activity_trigger(table: str, event: str, moment: str = "new.updated_at") -> str:
    name = event.partition(" ")[0].lower()
    return f"""
CREATE TRIGGER {table}_{name}_activity AFTER {event} ON {table} BEGIN
    UPDATE sessions SET active_at = {moment}
    WHERE session_id = new.session_id AND active_at < {moment};
END
"""


# A write to an agent or a message keeps the replaced values as a version: they were current until the latest message
# was added. Two changes after one message count as one: nothing can return to what was between them.
_AGENT_VERSION = """
CREATE TRIGGER agents_version AFTER UPDATE OF state, conversation_manager_state, internal_state, context ON agents
WHEN old.state <> new.state
    OR old.conversation_manager_state <> new.conversation_manager_state
    OR old.internal_state <> new.internal_state
    OR old.context IS NOT new.context BEGIN
    INSERT INTO agent_versions
    SELECT
        session_id,
        agent_id,
        message_id,
        nullif(old.state, new.state),
        nullif(old.conversation_manager_state, new.conversation_manager_state),
        nullif(old.internal_state, new.internal_state),
        nullif(ifnull(old.context, '[]'), ifnull(new.context, '[]'))
    FROM messages
    WHERE session_id = old.session_id AND agent_id = old.agent_id
    ORDER BY message_id DESC LIMIT 1
    ON CONFLICT DO UPDATE SET
        state = ifnull(state, excluded.state),
        conversation_manager_state = ifnull(conversation_manager_state, excluded.conversation_manager_state),
        internal_state = ifnull(internal_state, excluded.internal_state),
        context = ifnull(context, excluded.context);
END
"""
_MESSAGE_VERSION = """
CREATE TRIGGER messages_version AFTER UPDATE OF edited_message ON messages
WHEN old.edited_message IS NOT new.edited_message
    AND old.message IS new.message AND old.redact_message IS new.redact_message BEGIN
    INSERT INTO message_versions
    SELECT session_id, agent_id, old.message_id, message_id, old.edited_message
    FROM messages
    WHERE session_id = old.session_id AND agent_id = old.agent_id AND message_id > old.message_id
    ORDER BY message_id DESC LIMIT 1
    ON CONFLICT DO NOTHING;
END
"""
# A rewritten or redacted message replaces its old text at every checkpoint.
_NO_VERSIONS = """
CREATE TRIGGER messages_rewritten AFTER UPDATE OF message, redact_message ON messages
WHEN old.message IS NOT new.message OR old.redact_message IS NOT new.redact_message BEGIN
    DELETE FROM message_versions
    WHERE session_id = old.session_id AND agent_id = old.agent_id AND message_id = old.message_id;
END
"""

_TRIGGERS = (
    _activity_trigger("sessions", "INSERT"),
    _activity_trigger("agents", "INSERT"),
    _activity_trigger("agents", "UPDATE"),
    _activity_trigger("messages", "INSERT", "max(new.created_at, new.updated_at)"),
    _activity_trigger("messages", "UPDATE OF updated_at"),
    _activity_trigger("multi_agents", "INSERT"),
    _activity_trigger("multi_agents", "UPDATE"),
    _AGENT_VERSION,
    _MESSAGE_VERSION,
    _NO_VERSIONS,
)


def _create(connection: sqlite3.Connection) -> None:
    upgrading = legacy.is_layout(connection)
    if upgrading:
        legacy.set_aside(connection)
    for statement in (*(table.ddl for table in (*TABLES, *STORAGE_TABLES)), *_INDEXES, *_TRIGGERS, *VIEWS):
        connection.execute(statement)
    if upgrading:
        legacy.move_in(connection)


# Step N upgrades a file from version N to N + 1. Append new steps; never change the step of a released version.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create,)
VERSION = len(MIGRATIONS)


def check_belongs_here(path: str, timeout: float) -> None:
    """Refuse another program's file, or one from a newer version, without touching it.

    Merely opening a foreign database to write can change it: SQLite recovers and checkpoints what it finds. So this
    looks through a connection that cannot write.

    Args:
        path: The file.
        timeout: Seconds to wait for a program that has locked the file.

    Raises:
        SessionException: If the file is not a SQLite database, not one of ours, or too new.
    """
    if has_content(path + "-journal"):
        return  # it is being created, or must be recovered first: `prepare` looks again after that
    # The main file alone is enough, unless its newest pages are still in the write-ahead log.
    immutable = ""
    if not has_content(path + "-wal"):
        if _is_marked(path):  # ten times faster than opening it
            return
        immutable = "&immutable=1"
    uri = files.uri(path, f"mode=ro{immutable}")
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
    try:
        read_version(connection, path)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise errors.from_database(path, error, timeout) from error
    finally:
        connection.close()


def _is_marked(path: str) -> bool:
    """Return whether the header of a file marks it as ours, with the current version."""
    with open(path, "rb", buffering=0, opener=files.open_existing) as file:
        header = file.read(100)
    # The offsets are from https://sqlite.org/fileformat.html (1.3).
    marks = (header[60:64], header[68:72])
    ours = (VERSION.to_bytes(4, "big"), APPLICATION_ID.to_bytes(4, "big"))
    return header.startswith(b"SQLite format 3\0") and marks == ours


def prepare(
    connection: sqlite3.Connection, path: str, timeout: float, keep_legacy: Callable[[], str] | None = None
) -> None:
    """Bring a database to the current schema and into WAL mode.

    Args:
        connection: A connection in autocommit mode whose busy timeout is set.
        path: The file's name, for errors.
        timeout: Seconds to wait for other processes that do the same.
        keep_legacy: Saves a copy of a legacy file and returns its name; called before the file is upgraded, while no
            other process can write.

    Raises:
        SessionException: If the file is another program's, or was written by a newer version.
        sqlite3.Error: If SQLite fails; whatever was begun is rolled back.
    """
    copies: list[str] = []

    def migrate(connection: sqlite3.Connection) -> None:
        version = read_version(connection, path)
        is_legacy = version == 0 and legacy.is_layout(connection)
        if is_legacy and keep_legacy is not None:
            copies.append(keep_legacy())
        for step in MIGRATIONS[version:]:
            step(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")

    if read_version(connection, path) < VERSION:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # takes effect in a file that is still empty
        try:
            transact(connection, "BEGIN IMMEDIATE", migrate)
        except BaseException:
            # The old file is unchanged. If each failed attempt left a copy, a restarting service would fill the disk.
            with suppress(OSError, connection.Error):
                if copies and read_version(connection, path) < VERSION:
                    os.unlink(copies[0])
            raise
    _switch_to_wal(connection, path, timeout)


def read_version(connection: sqlite3.Connection, path: str) -> int:
    """Return the schema version of a file; 0 means an empty file or a legacy one.

    Raises:
        SessionException: If the file is another program's, or was written by a newer version.
    """
    # Neither pragma parses the schema, which takes longer than the rest of opening a file. The order matters: one
    # transaction marks a file as ours and sets its version, so the version read second belongs to the mark or is newer.
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id == APPLICATION_ID and version >= 0:
        if version > VERSION:
            raise errors.SessionException(
                f"{path} | written by a newer version of strands-sqlite-session-manager (schema {version}, this one"
                f" knows {VERSION}): upgrade the package"
            )
        return int(version)
    if not connection.in_transaction:
        # Another process may be creating or upgrading the file: read both in one transaction.
        return transact(connection, "BEGIN", lambda connection: read_version(connection, path))
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id or version or (objects and not legacy.is_layout(connection)):
        raise errors.SessionException(
            f"{path} | a database of another program, not of strands-sqlite-session-manager: choose another path"
        )
    return 0


def _switch_to_wal(connection: sqlite3.Connection, path: str, timeout: float) -> None:
    """Turn on write-ahead logging, so that readers and a writer work at the same time.

    The switch needs exclusive access to the file, and SQLite does not wait for that as it does for other locks.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except connection.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    if mode not in ("wal", "memory"):
        raise errors.SessionException(
            f"{path} | the file system does not support SQLite's write-ahead log: move the file to a local disk"
        )


def has_content(path: str) -> bool:
    """Return whether a file exists and is not empty."""
    try:
        return os.path.getsize(path) > 0
    except FileNotFoundError:
        return False
