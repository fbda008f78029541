"""The tables, and the steps that bring a file to them."""

import os
import sqlite3
import time
from collections.abc import Callable
from urllib.request import pathname2url

from . import earlier_package
from .activity import ACTIVITY
from .errors import database_exception, session_exception
from .views import VIEWS

# "StSS": says in the file's header whose database it is (https://sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x53745353

# All tables are ordinary ones with rowids. Clustered by their keys, rows would move whenever one comes between them,
# and moved rows leave copies in the unused parts of pages; see erasure.py.
SESSIONS = """
CREATE TABLE sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    session_type TEXT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
)
"""

# `revision` changes with every write but a plain append: who holds another value is stale. It starts at
# random so that an agent that was deleted and created again is not taken for the one before.
# `live_messages` says which messages the agent holds, see window.py; NULL is not known.
AGENTS = """
CREATE TABLE agents (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    agent_id TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT (random() >> 2),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    state TEXT NOT NULL,
    conversation_manager_state TEXT NOT NULL,
    internal_state TEXT NOT NULL,
    live_messages TEXT,
    PRIMARY KEY (session_id, agent_id)
)
"""

# `message` is what was said and stays; `live_message` is how the agent holds it now, where that differs.
# Clustered by the key, a million messages of 350 bytes would be read faster and written slower, but from 1 KB on
# they spill to overflow pages and double the file. See tests/benchmarks/message_table.py.
MESSAGES = """
CREATE TABLE messages (
    session_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    message_id INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    message TEXT NOT NULL,
    redact_message TEXT,
    live_message TEXT,
    PRIMARY KEY (session_id, agent_id, message_id),
    FOREIGN KEY (session_id, agent_id) REFERENCES agents ON DELETE CASCADE
)
"""

MULTI_AGENTS = """
CREATE TABLE multi_agents (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    multi_agent_id TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT (random() >> 2),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (session_id, multi_agent_id)
)
"""


def _create_tables(connection: sqlite3.Connection) -> None:
    upgrading = earlier_package.is_layout(connection)
    if upgrading:
        earlier_package.set_aside(connection)
    for statement in (SESSIONS, AGENTS, MESSAGES, MULTI_AGENTS):
        connection.execute(statement)
    if upgrading:
        earlier_package.move_in(connection)


def _add_activity_and_views(connection: sqlite3.Connection) -> None:
    for statement in (*ACTIVITY, *VIEWS):
        connection.execute(statement)


# Step N brings a file from version N to N + 1. Append to it; never change a step that was released, nor what it is made
# of: the statements above, in `activity.py` and in `views.py`. A new column also has its place in `tables.py`, in the
# statements of `records.py` or `live.py` that write and read it, in README's schema, and in exports: `_FORMAT` of
# `transfer.py` counts up where an older export lacks it.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create_tables, _add_activity_and_views)
VERSION = len(MIGRATIONS)


def check_belongs_here(path: str, timeout: float) -> None:
    """Refuse a file that is another program's, or newer, without touching it.

    Opening a foreign database to write can already change it (SQLite recovers and checkpoints what it
    finds), so this looks through a connection that cannot.

    Args:
        path: The file.
        timeout: Seconds to wait for a program that has the file for itself.

    Raises:
        SessionException: If the file is not a SQLite database, not one of ours, or too new.
    """
    if _has_content(path + "-journal"):
        return  # being created, or to be recovered first: `prepare` looks again when that is done
    # The main file alone tells, unless what it was last told is still in its write-ahead log.
    immutable = "" if _has_content(path + "-wal") else "&immutable=1"
    uri = f"file:{pathname2url(path)}?mode=ro{immutable}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
    try:
        version(connection, path)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise database_exception(path, error, timeout) from error
    finally:
        connection.close()


def prepare(connection: sqlite3.Connection, path: str, timeout: float) -> None:
    """Bring a database to the current schema and into WAL mode.

    Args:
        connection: A connection in autocommit mode whose busy timeout is set.
        path: The file's name, for errors.
        timeout: Seconds to wait for other processes that do the same.

    Raises:
        SessionException: If the file is another program's, or was written by a newer version.
        sqlite3.Error: If SQLite fails; whatever was begun is rolled back.
    """
    if version(connection, path) < VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for migrate in MIGRATIONS[version(connection, path) :]:
                migrate(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    _switch_to_wal(connection, path, timeout)


def version(connection: sqlite3.Connection, path: str) -> int:
    """Return the schema version of a file; 0 is an empty file or one of the earlier package."""
    connection.execute("SAVEPOINT look")  # so that what is read is of one moment: others may be creating the file
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        is_earlier = objects > 0 and earlier_package.is_layout(connection)
    finally:
        connection.execute("RELEASE look")
    if application_id == APPLICATION_ID and number >= 0:
        if number > VERSION:
            raise session_exception(
                f"{path} | written by a newer version of strands-sqlite-session-manager (schema {number}, "
                f"this one knows {VERSION}): upgrade the package"
            )
        return int(number)
    if application_id or number or (objects and not is_earlier):
        raise session_exception(f"{path} | a database of something else than strands-sqlite-session-manager")
    return 0


def _switch_to_wal(connection: sqlite3.Connection, path: str, timeout: float) -> None:
    """Turn on write-ahead logging, which lets readers and a writer work at the same time.

    The switch needs the file to itself, and SQLite does not wait for that as it does for other locks.
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
        raise session_exception(f"{path} | the file system does not support SQLite's write-ahead log")


def _has_content(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except FileNotFoundError:
        return False
