"""Where the database file is, and how it, its folders and its copies stay readable by their owner only."""

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote

from .. import errors

MEMORY = ":memory:"
ENVIRONMENT_VARIABLE = "STRANDS_SQLITE_DB_PATH"
DEFAULT_PATH = "./sessions.db"
_PARTIAL = (".new-", ".partial")  # how the name of a file that is being written begins and ends
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


def resolve(db_path: str | os.PathLike[str] | None) -> str:
    """Return the absolute path of the database file, or `:memory:`.

    Args:
        db_path: The path given; None uses `STRANDS_SQLITE_DB_PATH`, or else `./sessions.db`. `~` is expanded and links
            are followed, so that each file has one name.

    Raises:
        TypeError: If the path is not text.
        ValueError: If the path is empty, looks like a URL, or holds what SQLite cannot take.
        SessionException: If it leads to something that is not a regular file, or through a link to nothing; or if the
            file has a second name.
    """
    source = "db_path"
    if db_path is None:
        source = ENVIRONMENT_VARIABLE
        db_path = os.environ.get(ENVIRONMENT_VARIABLE, DEFAULT_PATH)
    given = check_path(db_path, source)
    _refuse_url(given, source)
    if given == MEMORY:
        return MEMORY
    if given.endswith(_SEPARATORS) or os.path.basename(given) in (os.curdir, os.pardir):
        raise ValueError(f"{source}=<{given}> | names a folder; add the name of a file, such as sessions.db")
    named = os.path.expanduser(given)
    path = os.path.realpath(named)
    try:
        status = os.stat(path)
    except OSError as error:
        if os.path.islink(named):  # anyone who can plant one would choose where the conversations go
            raise errors.SessionException(
                f"{named} | a link to a file that does not exist: give the path of the file itself"
            ) from error
        return path
    if not stat.S_ISREG(status.st_mode):
        raise errors.SessionException(f"{path} | not a file, and so not a database: correct the path")
    if status.st_nlink > 1:
        _remove_partial_name(path)
        _refuse_second_name(path)
    return path


def _refuse_url(given: str, source: str) -> None:
    """Refuse a URL, as SQLAlchemy and others write one for a file: it would create oddly named folders.

    The URL of another store may hold a password, so the error repeats only its scheme.
    """
    url = re.match(r"(?i)(?:([a-z][a-z0-9+.-]+)://|(sqlite):/)([^?]*)", given)
    if url is None:
        return
    scheme, rest = (url[1] or url[2]).lower(), url[3]
    if scheme.partition("+")[0] not in ("sqlite", "file"):
        raise ValueError(f"{source}=<{scheme}://...> | a URL, but must be the path of a SQLite file")
    path = rest if scheme == "file" else rest.removeprefix("/")
    raise ValueError(f"{source}=<{given}> | a URL, but must be a path: write {path or MEMORY}")


def uri(path: str, parameters: str) -> str:
    """Return the URI by which SQLite opens an absolute path, with parameters such as `mode=ro`."""
    if os.name == "nt":
        path = "/" + path.replace(os.sep, "/")
    return f"file:{quote(path)}?{parameters}"


def _remove_partial_name(path: str) -> None:
    """Remove the name under which a file was written, if a process was killed between giving it its name and this."""
    with suppress(OSError):  # where nobody may write, for example
        for entry in os.scandir(os.path.dirname(path)):
            is_partial = entry.name.startswith(_PARTIAL[0]) and entry.name.endswith(_PARTIAL[1])
            if is_partial and os.path.samefile(entry.path, path):
                os.unlink(entry.path)


def _refuse_second_name(path: str) -> None:
    """Refuse a file with a second name, a hard link.

    SQLite names the write-ahead log after the file. Two names would have two of them, which overwrite each other's
    pages (https://sqlite.org/howtocorrupt.html, 2.4).
    """
    names = os.stat(path).st_nlink
    if names > 1:
        raise errors.SessionException(
            f"{path} | the file has {names} names (hard links). SQLite would keep a write-ahead log for each of them,"
            " and lose messages: remove the other names, or use symbolic links"
        )


def check_path(path: str | os.PathLike[str], name: str) -> str:
    """Return a path that a user gave, as text.

    Args:
        path: The path.
        name: What to call it in an error.

    Raises:
        TypeError: If it is not text.
        ValueError: If it is empty, or holds what SQLite cannot take.
    """
    given = os.fspath(path)
    if not isinstance(given, str):
        raise TypeError(f"{name}=<{given!r}> | path must be text")
    if not given.strip():
        raise ValueError(f"{name} | path cannot be empty")
    if "\0" in given or given.encode(errors="ignore").decode() != given:
        raise ValueError(f"{name}=<{given!a}> | path cannot hold NUL or what is not Unicode")
    return given


def create_private(path: str) -> None:
    """Create an empty file that only its owner can read, unless the name is taken.

    Missing parent folders are created in the same way. SQLite gives a database's `-wal` and `-shm`
    the mode of the file itself.

    Raises:
        OSError: If the place does not allow it.
    """
    if os.path.exists(path):
        return
    missing = []
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process created it meanwhile
            os.mkdir(folder, 0o700)
            if os.lstat(folder).st_mode & 0o700 != 0o700:  # a umask can restrict the owner, too
                os.chmod(folder, 0o700)
            sync(os.path.dirname(folder))
    with suppress(FileExistsError):
        # O_EXCL also refuses a link that appeared since the path was resolved.
        _close_private(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _close_private(descriptor: int) -> None:
    if os.name == "posix":
        os.fchmod(descriptor, 0o600)  # a umask can restrict the owner, too
    os.close(descriptor)


def open_existing(path: str, flags: int) -> int:
    """Open an existing file, but not a link that another user may have put in its place; an `opener` for `open`."""
    return os.open(path, flags & ~os.O_CREAT | getattr(os, "O_NOFOLLOW", 0))


def check_companions(path: str) -> None:
    """Refuse files beside a database that SQLite would write to, if another user may have put them there to read them.

    Raises:
        SessionException: If there is a link, a file that belongs neither to the database's owner nor to us, or a file
            of another user that more people can read than the database.
    """
    if path == MEMORY or os.name != "posix":
        return
    database, own = os.stat(path), os.geteuid()
    for name in (f"{path}-wal", f"{path}-shm", f"{path}-journal"):
        try:
            found = os.lstat(name)
        except FileNotFoundError:
            continue
        is_known = found.st_uid in (own, database.st_uid) or database.st_mode & 0o066
        is_wider = found.st_mode & 0o066 & ~database.st_mode and found.st_uid != own
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or not is_known or is_wider:
            raise errors.SessionException(f"{name} | was put there by another user: remove it")


@contextmanager
def new_file(path: str) -> Iterator[str]:
    """Yield a path to write to, readable by its owner only; the file gets its name once it is complete and on disk.

    Args:
        path: The name, which must be free.

    Raises:
        FileExistsError: If the name is taken.
        OSError: If the place does not allow it.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    # In the same folder, so that one step can give it its name.
    prefix, suffix = _PARTIAL
    descriptor, partial = tempfile.mkstemp(dir=os.path.dirname(path), prefix=prefix, suffix=suffix)
    _close_private(descriptor)
    try:
        yield partial
        _publish(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def _publish(partial: str, path: str) -> None:
    with open(partial, "rb+", opener=open_existing) as file:
        os.fsync(file.fileno())
    if os.name == "nt":
        os.rename(partial, path)  # does not overwrite on Windows
        return
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.rename(partial, path)
    sync(os.path.dirname(path))


def sync(path: str) -> None:
    """Wait until a file, or the names in a folder, are on disk; do nothing if it does not exist."""
    if os.name == "nt":  # Windows syncs only files that are open for writing
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
