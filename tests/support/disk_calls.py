"""Intercepts what a process asks of its disk: the system calls of SQLite and of Python.

SQLite's unix layer lets a program replace its system calls; `ctypes` does so in the library that Python's `sqlite3`
uses. `fsync` is not among them, so it is intercepted in the methods of each file that SQLite opens. None of this can be
undone: use it in child processes only.
"""

import ctypes
import errno
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FSYNC_FAILED = 10 | 4 << 8  # SQLITE_IOERR_FSYNC
_CANNOT_OPEN = 14  # SQLITE_CANTOPEN
_FILE_METHODS = 19
_FILE_SYNC = 5  # xSync, in the methods of a file

_pointer, _int, _size, _text = ctypes.c_void_p, ctypes.c_int, ctypes.c_ssize_t, ctypes.c_char_p


class _Vfs(ctypes.Structure):
    _fields_ = (
        *((name, _int) for name in ("iVersion", "szOsFile", "mxPathname")),
        *((name, _pointer) for name in ("pNext", "zName", "pAppData", "xOpen", "xDelete", "xAccess", "xFullPathname")),
        *((name, _pointer) for name in ("xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness", "xSleep")),
        *((name, _pointer) for name in ("xCurrentTime", "xGetLastError", "xCurrentTimeInt64")),
        *((name, _pointer) for name in ("xSetSystemCall", "xGetSystemCall", "xNextSystemCall")),
    )


# What SQLite's system calls return and take, and what they are called here.
_CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "open": ("open", (_int, _text, _int, _int)),
    "read": ("read", (_size, _int, _pointer, _size)),
    "pread": ("read", (_size, _int, _pointer, _size, _size)),
    "pread64": ("read", (_size, _int, _pointer, _size, _size)),
    "write": ("write", (_size, _int, _pointer, _size)),
    "pwrite": ("write", (_size, _int, _pointer, _size, _size)),
    "pwrite64": ("write", (_size, _int, _pointer, _size, _size)),
    "ftruncate": ("truncate", (_int, _int, _size)),
    "fstat": ("stat", (_int, _int, _pointer)),
    "mmap": ("map", (_size, _pointer, _size, _int, _int, _int, _size)),
    "unlink": ("unlink", (_int, _text)),
    "openDirectory": ("sync folder", (_int, _text, _pointer)),
}


@dataclass(frozen=True)
class Request:
    """A request of a process to the disk.

    Attributes:
        call: For SQLite, one of `open`, `read`, `write`, `truncate`, `stat`, `map`, `unlink`, `sync` and `sync folder`.
            For Python, `open`, `stat`, `unlink`, `link`, `rename`, `mkdir`, `sync` and `sync folder`.
        path: The file or folder.
        offset: Where something is written, or to which size a file is cut.
        size: How many bytes are to be written.
        data: Returns them.
        to: The new name of a file.
    """

    call: str
    path: str
    offset: int = 0
    size: int = 0
    data: Callable[[], bytes] = bytes
    to: str = ""


Go = Callable[..., Any]
Answer = Callable[[Request, Go], Any]


def go_ahead(request: Request, go: Go) -> Any:
    """Answer as the disk does. Other answers may raise `OSError`, or write only a part with `go(length)`."""
    return go()


def missing() -> str:
    """Return why `Disk` cannot work here, or nothing."""
    if sys.platform != "linux":
        return "SQLite's system calls are replaced on Linux only"
    try:
        _find_vfs()
    except (AttributeError, OSError, ImportError) as error:
        return f"SQLite's functions cannot be reached: {error}"
    return ""


def _find_vfs() -> _Vfs:
    import _sqlite3

    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs: _Vfs = library.sqlite3_vfs_find(None).contents
    if vfs.iVersion < 3:
        raise OSError("this SQLite does not let its system calls be replaced")
    return vfs


class Disk:
    """The disk as this process sees it below a folder, from now to its end.

    SQLite holds mutexes while it calls the disk. If Python collected a connection in the middle of that, closing it
    would wait for one of them forever. So collection is off; call `gc.collect` in between.

    Attributes:
        answer: What answers each request.
        failure: An error of the test's own answer, which C code could not raise.
    """

    def __init__(self, folder: Path, answer: Answer = go_ahead) -> None:
        self.answer = answer
        self.failure: BaseException | None = None
        self._folder = os.path.realpath(folder)
        self._descriptors: dict[int, str] = {}
        self._files: dict[int, str] = {}
        self._methods: dict[int, Any] = {}
        self._kept: list[Any] = []  # what C code points to
        self._vfs = _find_vfs()
        gc.disable()
        self._replace_system_calls()
        self._replace_open()
        self._replace_python()

    def _ask(self, request: Request, go: Go) -> Any:
        if not request.path.startswith(self._folder):
            return go()
        return self.answer(request, go)

    def _in_c(self, request: Request, go: Go, failed: int = -1) -> int:
        """Answer a request from C code, which takes no exceptions."""
        try:
            return int(self._ask(request, go))
        except OSError as error:
            ctypes.set_errno(error.errno or errno.EIO)
        except BaseException as error:
            self.failure = self.failure or error
            ctypes.set_errno(errno.EIO)
        return failed

    # -- SQLite --

    def _replace_system_calls(self) -> None:
        address = ctypes.addressof(self._vfs)
        get = ctypes.CFUNCTYPE(_pointer, _pointer, _text)(self._vfs.xGetSystemCall)
        put = ctypes.CFUNCTYPE(_int, _pointer, _text, _pointer)(self._vfs.xSetSystemCall)
        for name, (call, types) in _CALLS.items():
            original = get(address, name.encode())
            if original:
                prototype = ctypes.CFUNCTYPE(*types, use_errno=True)
                replacement = prototype(self._system_call(call, prototype(original)))
                self._kept.append(replacement)
                assert put(address, name.encode(), ctypes.cast(replacement, _pointer)) == 0

    def _system_call(self, call: str, original: Callable[..., int]) -> Callable[..., int]:
        def by_name(name: bytes, *others: Any) -> int:
            path = os.fsdecode(name)
            failed = _CANNOT_OPEN if call == "sync folder" else -1
            if call == "sync folder":
                path = os.path.dirname(path)  # SQLite gives the name of a file in it
            result = self._in_c(Request(call, path), lambda: original(name, *others), failed)
            if call == "open" and result >= 0:
                self._descriptors[result] = path
            return result

        def by_descriptor(descriptor: int, *others: Any) -> int:
            path = self._descriptors.get(descriptor, "")
            if call == "truncate":
                return self._in_c(Request(call, path, offset=others[0]), lambda: original(descriptor, *others))
            if call != "write":
                return self._in_c(Request(call, path), lambda: original(descriptor, *others))
            buffer, size, *at = others
            offset = at[0] if at else os.lseek(descriptor, 0, os.SEEK_CUR)
            request = Request(call, path, offset, size, lambda: ctypes.string_at(buffer, size))
            return self._in_c(request, lambda length=size: original(descriptor, buffer, length, *at))

        def by_fifth(*arguments: Any) -> int:
            path = self._descriptors.get(arguments[4], "")
            return self._in_c(Request(call, path), lambda: original(*arguments))

        if call == "map":
            return by_fifth
        return by_name if call in ("open", "unlink", "sync folder") else by_descriptor

    def _replace_open(self) -> None:
        # The name is passed on unchanged: SQLite keeps the pointer, and parameters follow the name.
        prototype = ctypes.CFUNCTYPE(_int, _pointer, _pointer, _pointer, _int, _pointer, use_errno=True)
        original = prototype(self._vfs.xOpen)

        def open_file(vfs: int, name: int | None, file: int, flags: int, flags_out: int) -> int:
            result = int(original(vfs, name, file, flags, flags_out))
            if result == 0:
                self._files[file] = os.fsdecode(ctypes.string_at(name)) if name else ""
                methods = _pointer.from_address(file)
                methods.value = ctypes.addressof(self._with_sync_replaced(methods.value or 0))
            return result

        replacement = prototype(open_file)
        self._kept.append(replacement)
        self._vfs.xOpen = ctypes.cast(replacement, _pointer).value

    def _with_sync_replaced(self, address: int) -> Any:
        if address not in self._methods:
            methods = (_pointer * _FILE_METHODS).from_buffer_copy((_pointer * _FILE_METHODS).from_address(address))
            prototype = ctypes.CFUNCTYPE(_int, _pointer, _int, use_errno=True)
            original = prototype(methods[_FILE_SYNC])

            def sync(file: int, flags: int) -> int:
                return self._in_c(Request("sync", self._files[file]), lambda: original(file, flags), _FSYNC_FAILED)

            replacement = prototype(sync)
            self._kept.append(replacement)
            methods[_FILE_SYNC] = ctypes.cast(replacement, _pointer).value
            self._methods[address] = methods
        return self._methods[address]

    # -- Python --

    def _replace_python(self) -> None:
        for call in ("open", "stat", "unlink", "mkdir", "link", "rename"):
            setattr(os, call, self._python_call(call, getattr(os, call)))
        original = os.fsync

        def sync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            self._ask(Request("sync folder" if os.path.isdir(path) else "sync", path), lambda: original(descriptor))

        os.fsync = sync

    def _python_call(self, call: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(path: Any, *others: Any, **options: Any) -> Any:
            if not isinstance(path, (str, os.PathLike)):
                return original(path, *others, **options)
            to = os.path.abspath(others[0]) if call in ("link", "rename") else ""
            request = Request(call, os.path.abspath(path), to=to)
            return self._ask(request, lambda: original(path, *others, **options))

        return replacement
