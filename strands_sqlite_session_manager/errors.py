"""Every exception of the package, and how the errors of SQLite and the file system become them.

No message repeats what was said in a conversation: it names ids, types and places only.
"""

import sqlite3
from typing import NoReturn

from strands.types.exceptions import SessionException

__all__ = [
    "DatabaseLockedException",
    "SessionException",
    "SessionExistsException",
    "SessionNotFoundException",
    "StaleSessionException",
]


class StaleSessionException(SessionException):
    """Another writer continued the conversation after this agent or orchestrator had loaded it.

    Nothing was written or overwritten. Build a new session manager and a new agent with the same ids: they continue
    from what the other writer stored.
    """


class SessionNotFoundException(SessionException):
    """The session, agent, message or orchestrator does not exist, or was deleted meanwhile.

    Nothing was written. Check the id; `list_sessions` and `list_agents` return the existing ones.
    """


class SessionExistsException(SessionException):
    """A session, agent or message with this id already exists.

    Nothing was written, and the existing one is unchanged. Choose another id, delete the old one first, or build a
    `SQLiteSessionManager` on the id to continue it.
    """


class DatabaseLockedException(SessionException):
    """No write was possible for `timeout` seconds, because another thread or process kept the database locked.

    Nothing was written, and the same call can be made again. If it happens often, look for a program that keeps
    transactions open for a long time, or pass a longer `timeout`.
    """


def from_database(path: str, error: BaseException, timeout: float) -> SessionException:
    """Return the exception that explains a database error to a user; the caller raises it from that error.

    Args:
        path: The database file.
        error: What `sqlite3` raised, an `OSError`, a `UnicodeDecodeError`, or an error that names an unreadable row.
        timeout: Seconds that a writer waited for others.
    """
    without_content(error)
    said = str(error)
    if isinstance(error, OSError):
        return SessionException(f"{path} | {said}")
    if isinstance(error, UnicodeDecodeError) or "Could not decode to UTF-8" in said:
        said = "a row holds text that is not UTF-8"
        error.args = (said,)  # the original repeats the row
    elif "user-defined function" in said:
        said = "a row holds text that is not JSON"
    elif not isinstance(error, sqlite3.Error) or "malformed" in said or "unsupported file format" in said:
        pass
    elif "locked" in said or "busy" in said:
        return DatabaseLockedException(
            f"{path} | another writer kept the database locked for more than {timeout:g} seconds; nothing was written:"
            " try again"
        )
    elif "locking protocol" in said:
        return DatabaseLockedException(
            f"{path} | a process that was stopped keeps the database locked: continue it, or end it"
        )
    elif "not a database" in said:
        return SessionException(
            f"{path} | not a SQLite database that can be read: {said}. If it is encrypted, open it with the `connect`"
            " that it was written with. If it is damaged, replace it with a file that `backup` made and"
            " `strands-sqlite check` finds sound"
        )
    else:
        return SessionException(f"{path} | {said}")
    return SessionException(
        f"{path} | {said}. The file is damaged: `strands-sqlite check` says where. Replace it with a file that `backup`"
        " made"
    )


def raise_violation(error: Exception, exists: str = "", orphan: str = "") -> NoReturn:
    """Raise the exception that a violated constraint of our tables means; raise any other error as it is.

    Args:
        error: An `IntegrityError` of any driver.
        exists: The message if the key is taken.
        orphan: The message if the row that this one belongs to does not exist.
    """
    said = str(error)
    if exists and said.startswith(_KEY_IS_TAKEN):
        raise SessionExistsException(exists) from error
    if orphan and said.startswith("FOREIGN KEY constraint failed"):
        raise SessionNotFoundException(orphan) from error
    raise error


# Of our own tables: a trigger that another program added can violate a constraint of its own.
_KEY_IS_TAKEN = tuple(f"UNIQUE constraint failed: {table}." for table in ("sessions", "agents", "messages"))


def without_content(error: BaseException) -> None:
    """Remove from an error the text that could not be decoded or encoded."""
    if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)):
        error.object = type(error.object)()
        error.args = (error.encoding, error.object, error.start, error.end, error.reason)


def first_line(error: Exception) -> str:
    """Return the first line of an error; the next lines can hold the values of a statement."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def harmless(error: Exception) -> Exception | None:
    """Reduce an error of another store to its first line; return None if the error does not allow it."""
    without_content(error)
    said = first_line(error)
    if str(error) != said:
        error.args = (said,)
    error.__cause__ = error.__context__ = None
    return error if str(error) == said else None
