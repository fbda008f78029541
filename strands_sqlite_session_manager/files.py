"""Where the database file is, and how it and its folders come to be readable by their owner only."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .errors import session_exception

MEMORY = ":memory:"
ENVIRONMENT_VARIABLE = "STRANDS_SQLITE_DB_PATH"
DEFAULT_PATH = "./sessions.db"


def resolve(db_path: str | os.PathLike[str] | None) -> str:
    """Return the absolute path of the database file, or `:memory:`.

    Args:
        db_path: The path given; None takes `STRANDS_SQLITE_DB_PATH`, and without that `./sessions.db`.
            `~` is expanded and links are followed, so that one file has one name.

    Raises:
        TypeError: If the path is not text.
        ValueError: If the path is empty, or holds what SQLite cannot take.
        SessionException: If it leads to something that is no regular file, or by a link to nothing.
    """
    source = "db_path"
    if db_path is None:
        source = ENVIRONMENT_VARIABLE
        db_path = os.environ.get(ENVIRONMENT_VARIABLE, DEFAULT_PATH)
    given = os.fspath(db_path)
    if not isinstance(given, str):
        raise TypeError(f"{source}=<{given!r}> | path must be text")
    if not given.strip():
        raise ValueError(f"{source} | path cannot be empty")
    if "\0" in given or given.encode(errors="ignore").decode() != given:
        raise ValueError(f"{source}=<{given!a}> | path cannot hold NUL or what is not Unicode")
    if given == MEMORY:
        return MEMORY
    named = os.path.expanduser(given)
    path = os.path.realpath(named)
    if not os.path.exists(path):
        if os.path.islink(named):  # whoever can plant one would choose where the conversations go
            raise session_exception(f"{named} | a link to a file that does not exist")
    elif not os.path.isfile(path):
        raise session_exception(f"{path} | not a file that could be a database")
    return path


def create_private(path: str) -> None:
    """Create an empty file that only its owner can read, unless something is there already.

    Missing parent folders are created in the same way. SQLite gives a database's `-wal` and `-shm`
    the mode of the file itself.

    Raises:
        OSError: If the place does not allow it.
    """
    missing = []
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process created it at the same moment
            os.mkdir(folder, 0o700)
            os.chmod(folder, 0o700)  # an umask can take from its owner, too
    with suppress(FileExistsError):
        # O_EXCL also refuses a link that appeared since the path was resolved.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        os.chmod(path, 0o600)


@contextmanager
def new_file(path: str) -> Iterator[str]:
    """Give a file to write that only its owner can read, and its name when it is complete and on the disk.

    Args:
        path: The name, which must not be taken.

    Raises:
        FileExistsError: If the name is taken.
        OSError: If the place does not allow it.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    # Beside its place, so that it can get there in one step.
    descriptor, partial = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-", suffix=".partial")
    os.close(descriptor)
    try:
        yield partial
        _publish(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def _publish(partial: str, path: str) -> None:
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    if os.name == "nt":
        os.rename(partial, path)  # which does not overwrite there
        return
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.rename(partial, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
