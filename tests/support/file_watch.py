"""Records what this process creates, with the mode of each file and folder in its first moment."""

import builtins
import ctypes
import io
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

Step = Callable[[str, str], object]

_STEPS = {"open", "os.mkdir", "os.chmod", "os.link", "os.rename", "os.remove", "os.listdir", "sqlite3.connect"}


class _FileSystem(ctypes.Structure):
    """The beginning of https://sqlite.org/c3ref/vfs.html, whose last two functions exchange its system calls."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("sizes", ctypes.c_int * 2),
        ("others", ctypes.c_void_p * 16),
        ("set", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)),
        ("get", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)),
    )


_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, use_errno=True)
_UNLINK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, use_errno=True)


def _file_system() -> Any:
    """Return SQLite's file system, or None where it cannot be reached, as on Windows or in one that is built in."""
    try:
        import _sqlite3

        find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
    except (ImportError, AttributeError, OSError):
        return None
    find.restype, find.argtypes = ctypes.POINTER(_FileSystem), [ctypes.c_char_p]
    system = find(None)
    return system if os.name == "posix" and system and system.contents.version >= 3 else None


CAN_WATCH = _file_system() is not None


class Watch:
    """Watches this process to its end: use it in a child only.

    Attributes:
        created: Every file or folder that was created, with its mode at that moment, in order.
        events: All of that and what SQLite unlinked: `created PATH` and `unlinked PATH`.
    """

    def __init__(self, before: Step | None = None) -> None:
        """Begin.

        Args:
            before: Is called before every step on files with its name and path, such as `sqlite3.connect`.
        """
        self.created: list[tuple[str, int]] = []
        self.events: list[str] = []
        self._before: Step = before or (lambda name, path: None)
        self._busy = False
        self._watch_python()
        self._watch_sqlite()

    def _step(self, name: str, path: object) -> None:
        if not self._busy:
            self._busy = True  # what is done here does not count as a step
            try:
                self._before(name, os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path))
            finally:
                self._busy = False

    def _note(self, path: str, status: os.stat_result) -> None:
        self.created.append((path, stat.S_IMODE(status.st_mode)))
        self.events.append(f"created {path}")

    def _watch_python(self) -> None:
        plain_open, plain_mkdir, plain_file = os.open, os.mkdir, builtins.open

        def open_(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            existed = os.path.lexists(path)
            descriptor = plain_open(path, flags, *arguments, **options)
            if flags & os.O_CREAT and not existed:
                self._note(os.fsdecode(path), os.fstat(descriptor))
            return descriptor

        def mkdir(path: Any, *arguments: Any, **options: Any) -> None:
            plain_mkdir(path, *arguments, **options)
            self._note(os.fsdecode(path), os.stat(path))

        def file(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            creates = set(mode) & set("wax") and not isinstance(path, int) and not os.path.lexists(path)
            opened = plain_file(path, mode, *arguments, **options)
            if creates:
                self._note(os.fsdecode(path), os.fstat(opened.fileno()))
            return opened

        os.open, os.mkdir, builtins.open, io.open = open_, mkdir, file, file  # type: ignore[assignment]

        def heard(event: str, arguments: tuple[Any, ...]) -> None:
            if event in _STEPS and arguments:
                self._step(event, arguments[0])

        sys.addaudithook(heard)

    def _watch_sqlite(self) -> None:
        system = _file_system()
        real_open, real_unlink = (kind(system.contents.get(system, name)) for kind, name in _CALLS)

        def open_(path: bytes, flags: int, mode: int) -> int:
            self._step("SQLite's open", path)
            existed = os.path.lexists(path)
            descriptor: int = real_open(path, flags, mode)
            error = ctypes.get_errno()
            if descriptor >= 0 and flags & os.O_CREAT and not existed:
                self._note(os.fsdecode(path), os.fstat(descriptor))
            ctypes.set_errno(error)
            return descriptor

        def unlink(path: bytes) -> int:
            self.events.append(f"unlinked {os.fsdecode(path)}")
            result: int = real_unlink(path)
            return result

        self._kept = _OPEN(open_), _UNLINK(unlink)  # as long as SQLite calls them
        for (_, name), function in zip(_CALLS, self._kept, strict=True):
            assert system.contents.set(system, name, ctypes.cast(function, ctypes.c_void_p)) == 0


_CALLS: tuple[tuple[Any, bytes], ...] = ((_OPEN, b"open"), (_UNLINK, b"unlink"))
