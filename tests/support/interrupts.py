"""Interrupts a call at every moment at which Python can be interrupted, one moment a run.

Python runs signal handlers between bytecodes: when a function begins, after a call, and when a loop goes back.
`interrupted_at(n, call)` counts the bytecodes of the package that can lead there and, at the n-th, marks SIGINT as
pending. From there on it is an interrupt like any other: CPython itself runs the handler, at the next moment it would.
(A trace function that raises would interrupt between any two bytecodes, also where CPython never does, such as between
the end of a `with` block and the call of `__exit__`; no program could be safe from that.)
"""

import contextlib
import ctypes
import dis
import functools
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import strands_sqlite_session_manager

PACKAGE = str(Path(strands_sqlite_session_manager.__file__).parent)
# Python code of the standard library that a package with locks calls. It counts where the package calls it.
LIBRARY = (contextlib.__file__, threading.__file__, weakref.__file__)
_NEAR = 6  # frames between the package and what it calls

# Bytecodes that run no other code, so that an interrupt before them is the same as one after them.
_PLAIN = (
    "BUILD_", "CACHE", "CHECK_EXC_MATCH", "COPY", "DUP_TOP", "END_", "EXTENDED_ARG", "IS_OP", "JUMP_FORWARD",
    "KW_NAMES", "LIST_", "LOAD_", "MAKE_", "NOP", "POP_BLOCK", "POP_EXCEPT", "POP_JUMP_FORWARD", "POP_JUMP_IF",
    "POP_TOP", "PRECALL", "PUSH_", "RERAISE", "RETURN_CONST", "ROT_", "STORE_DEREF", "STORE_FAST", "SWAP", "TO_BOOL",
)  # fmt: skip
_CALLING_LOADS = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_NAME")

# `PyErr_SetInterruptEx` runs nothing: the interrupt stays pending until CPython looks for it.
_pend = ctypes.PYFUNCTYPE(None, ctypes.c_int, ctypes.py_object)(("PyErr_SetInterruptEx", ctypes.pythonapi))


class Interrupt(KeyboardInterrupt):
    """What a signal handler raises in the middle of a call."""


class _Fuse:
    """Marks the interrupt as pending when the last reference to it is gone."""


@dataclass
class Interrupted:
    """How a call that should be interrupted ended.

    Attributes:
        moments: How many moments were counted, up to the interrupt if there was one.
        place: Where Python was when it was interrupted, innermost frames last; empty if it never was.
        error: What the call raised instead of the interrupt.
        result: What it returned.
        swallowed: Errors that Python could only report, such as in `__del__`.
    """

    moments: int = 0
    place: list[str] = field(default_factory=list)
    error: BaseException | None = None
    result: Any = None
    swallowed: list[str] = field(default_factory=list)


@functools.cache
def _moments_of(code: CodeType) -> frozenset[int]:
    """Return the offsets of the bytecodes that can run other code, and so be interrupted separately."""
    return frozenset(
        instruction.offset
        for instruction in dis.get_instructions(code)
        if not instruction.opname.startswith(_PLAIN) or instruction.opname in _CALLING_LOADS
    )


class _Tracer:
    def __init__(self, number: int | None, places: tuple[str, ...]) -> None:
        self.moments = 0
        self._number = number
        self._places = places
        self._watcher: Any = None

    def enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not self._counts(frame):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self.step

    def _counts(self, frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        if name.startswith(self._places):
            return True
        if not name.startswith(LIBRARY):
            return False
        caller = frame.f_back
        for _ in range(_NEAR):
            if caller is None:
                return False
            if caller.f_code.co_filename.startswith(self._places):
                return True
            caller = caller.f_back
        return False

    def step(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and frame.f_lasti in _moments_of(frame.f_code):
            self.moments += 1
            if self.moments == self._number:
                sys.settrace(None)
                fuse = _Fuse()
                # Python code that marked the interrupt would receive it itself. A weak reference calls C code.
                self._watcher = weakref.ref(fuse, functools.partial(_pend, int(signal.SIGINT)))
        return self.step


def _place(frame: FrameType | None) -> list[str]:
    lines = []
    while frame is not None and len(lines) < 40:
        name = Path(frame.f_code.co_filename)
        if frame.f_code.co_filename == __file__:
            break
        lines.append(f"{name.parent.name}/{name.name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return lines[::-1][-4:]


@contextlib.contextmanager
def _handling(interrupted: Interrupted) -> Iterator[None]:
    def handler(number: int, frame: FrameType | None) -> None:
        interrupted.place = _place(frame) or ["behind the call"]
        raise Interrupt

    before, hook = signal.signal(signal.SIGINT, handler), sys.unraisablehook
    sys.unraisablehook = lambda error: interrupted.swallowed.append(f"{error.exc_value!r} in {error.object!r}")
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook


def interrupted_at(number: int | None, call: Callable[[], Any], places: tuple[str, ...] = (PACKAGE,)) -> Interrupted:
    """Make a call in the main thread and interrupt it at its n-th moment; None only counts the moments.

    Args:
        number: Which moment, from 1 on. If there are fewer, the call is not interrupted.
        call: What to call.
        places: Where moments count: the beginnings of paths of source files.
    """
    tracer, ended = _Tracer(number, places), Interrupted()
    with _handling(ended):
        try:
            sys.settrace(tracer.enter)
            try:
                ended.result = call()
            finally:
                sys.settrace(None)
            len("")  # an interrupt that is still pending comes here
        except Interrupt:
            pass
        except BaseException as error:
            if not ended.place or not isinstance(error, KeyboardInterrupt):
                ended.error = error.with_traceback(None)
                ended.error.__context__ = None
    ended.moments = tracer.moments
    return ended


if __name__ == "__main__":
    from .interrupt_sweep import main
    from .interruptible_operations import TRIALS

    sys.exit(main(TRIALS, sys.argv[1:]))
