"""How failures are worded: as a `SessionException`, which names the file where SQLite or the file is the reason.

Nothing here puts text of a conversation into a message: ids, types and places only.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strands.types.exceptions import SessionException


def session_exception(message: str) -> "SessionException":
    """Build Strands' `SessionException`, which is imported only when something failed."""
    from strands.types.exceptions import SessionException

    return SessionException(message)


class UnreadableError(Exception):
    """A row holds something else than what was stored there; says which row, and what."""


def database_exception(path: str, error: BaseException, timeout: float) -> "SessionException":
    """Say what an error of the database means for the person who meets it.

    Args:
        path: The database file.
        error: What `sqlite3` raised, `UnreadableError` or `OSError`; the caller raises from it. Text in the file that
            is not UTF-8 can also be a `UnicodeDecodeError`.
        timeout: Seconds that a writer waited for another one.
    """
    without_content(error)
    said = str(error)
    if isinstance(error, OSError):
        return session_exception(f"{path} | {said}")
    if isinstance(error, UnicodeDecodeError) or "Could not decode to UTF-8" in said:
        said = "a row holds text that is not UTF-8"
        error.args = (said,)  # in the place of one that repeats the row
    elif "user-defined function" in said:
        said = "a row holds what is not JSON"
    elif isinstance(error, UnreadableError) or "malformed" in said or "unsupported file format" in said:
        pass
    elif "locked" in said or "busy" in said:
        return session_exception(f"{path} | another writer held the database for more than {timeout:g} seconds")
    elif "locking protocol" in said:
        return session_exception(f"{path} | a process that has been stopped keeps the database locked")
    elif "not a database" in said:
        return session_exception(
            f"{path} | not a SQLite database that can be read: {said}. An encrypted one needs the `connect` that it"
            " was written with. In the place of a damaged one, put a file that `backup` made and `strands-sqlite check`"
            " finds sound"
        )
    else:
        return session_exception(f"{path} | {said}")
    return session_exception(
        f"{path} | {said}. The file is damaged: `strands-sqlite check` tells where. In its place, put a file that"
        " `backup` made"
    )


def without_content(error: BaseException) -> None:
    """Remove the text that could not be decoded or encoded from an error."""
    if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)):
        error.object = type(error.object)()
        error.args = (error.encoding, error.object, error.start, error.end, error.reason)


def first_line(error: Exception) -> str:
    """Return what an error says first; some go on with the values of a statement."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def harmless(error: Exception) -> Exception | None:
    """Reduce an error of another store to its first line; return None where it does not let itself be reduced."""
    without_content(error)
    said = first_line(error)
    if str(error) != said:
        error.args = (said,)
    error.__cause__ = error.__context__ = None
    return error if str(error) == said else None
