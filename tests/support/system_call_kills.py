"""Kills a child exactly when it enters or leaves its n-th system call.

Between two system calls, a process changes nothing that outlives it except shared memory, so these are all the moments
at which a kill can leave a file in a different state. Needs Linux, and the permission to trace a child.
"""

import ctypes
import functools
import os
import signal
from collections.abc import Callable
from typing import Any

from .workers import work_and_exit

_TRACE_ME, _GO_ON_TO_SYSTEM_CALL, _SET_OPTIONS = 0, 24, 0x4200
_MARK_SYSTEM_CALLS, _KILL_WITH_US = 1, 0x100000
_AT_SYSTEM_CALL = getattr(signal, "SIGTRAP", 5) | 0x80


@functools.cache
def can_trace() -> bool:
    """Return whether this system supports it."""
    try:
        return died_at_system_call(lambda: None, 1) is None
    except (OSError, AttributeError):
        return False


def died_at_system_call(work: Callable[[], object], number: int | None = None) -> int | None:
    """Run a function in a child, and kill that at a moment of the work.

    Args:
        work: The function; what other threads of the child do is not counted.
        number: The moment: 1 is when the first system call begins, 2 when it has ended, and so on. None lets the
            child live.

    Returns:
        None if it died, and how many moments there were if it did not.

    Raises:
        OSError: If the system does not allow it.
    """
    pid = os.fork()
    if pid == 0:

        def traced() -> None:
            _trace(_TRACE_ME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()

        work_and_exit(traced)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        raise PermissionError("a child cannot be traced here")
    _trace(_SET_OPTIONS, pid, data=_MARK_SYSTEM_CALLS | _KILL_WITH_US)
    passed, deliver = 0, 0
    while True:
        _trace(_GO_ON_TO_SYSTEM_CALL, pid, data=deliver)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            break
        deliver = os.WSTOPSIG(status)
        if deliver == _AT_SYSTEM_CALL:
            deliver = 0
            passed += 1
            if passed == number:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return None
    assert status == 0, "the child failed, see stderr"
    return passed


@functools.cache
def _ptrace() -> Any:
    function = ctypes.CDLL(None, use_errno=True).ptrace
    function.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    function.restype = ctypes.c_long
    return function


def _trace(request: int, pid: int, data: int = 0) -> None:
    if _ptrace()(request, pid, None, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
