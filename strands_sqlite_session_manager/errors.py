"""How failures are worded: every one is a `SessionException` that names the file.

Nothing here puts text of a conversation into a message: ids, types and places only.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strands.types.exceptions import SessionException


def session_exception(message: str) -> "SessionException":
    """Build Strands' `SessionException`, which is imported only when something failed."""
    from strands.types.exceptions import SessionException

    return SessionException(message)


def database_exception(path: str, error: Exception, timeout: float) -> "SessionException":
    """Say what an `sqlite3` error means for the person who meets it.

    Args:
        path: The database file.
        error: What `sqlite3` raised; the caller raises from it. Text in the file that is not UTF-8 can also be a
            `UnicodeDecodeError`.
        timeout: Seconds that a writer waited for another one.
    """
    if "locked" in str(error) or "busy" in str(error):
        return session_exception(f"{path} | another writer held the database for more than {timeout:g} seconds")
    if isinstance(error, UnicodeDecodeError):
        return session_exception(f"{path} | the file holds text that is not UTF-8")
    if "Could not decode to UTF-8" in str(error):
        error.args = ("a row holds text that is not UTF-8",)  # in the place of one that repeats the row
    return session_exception(f"{path} | {error}")


def first_line(error: Exception) -> str:
    """Return what an error says first; some go on with the values of a statement."""
    return (str(error).splitlines() or [type(error).__name__])[0]
