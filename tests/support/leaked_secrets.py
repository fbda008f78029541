"""Finds a secret in everything that a failure reveals: logs, warnings, chained exceptions, standard error."""

import functools
import logging
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from strands_sqlite_session_manager import SQLiteSessionManager

from .command_line import run
from .conversations import build
from .records import Orchestrator
from .scripted_model import tool_use

# Joined from parts, so that no source line in a traceback holds it.
SECRET = "".join(("xyzzy", "Plugh", "4711"))

# Their DEBUG logs do not count: botocore logs each request with its body, Strands each tool call.
_OTHERS = ("botocore", "boto3", "urllib3", "s3transfer", "moto", "responses", "werkzeug", "strands.tools")


def fill(path: Path) -> None:
    """Write a file whose session `home` has the secret wherever there can be one."""
    path.write_bytes(_filled())


@functools.cache
def _filled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        with SQLiteSessionManager("home", path, metadata={"user": SECRET}) as manager:
            script = ([tool_use("shout", "t1", text=SECRET), {"text": SECRET}], SECRET, SECRET)
            speaker = build(manager, *script, agent_id="ada", state={"key": SECRET})
            speaker(SECRET)
            speaker.messages[-1]["content"][0]["text"] += "!"  # so that there is an edited message
            speaker(SECRET)
            manager.create_multi_agent("home", Orchestrator("graph", {"key": SECRET}))  # type: ignore[arg-type]
        return path.read_bytes()


def holds(told: object) -> bool:
    """Return whether a text, or the `repr` of a value, contains the secret."""
    text = told if isinstance(told, str) else repr(told)
    return SECRET.casefold() in text.casefold()


def telling(work: Callable[[], object]) -> tuple[list[str], Exception | None]:
    """Work; return where the secret appeared, and how the work failed, if it did."""
    failure: Exception | None = None
    with _listening() as found:
        try:
            work()
        except Exception as error:
            failure = error
    return [*found, *(() if failure is None else _told_by(failure))], failure


def told_by_command(*arguments: object) -> list[str]:
    """Run a command; return where it revealed the secret. Its standard output may show it."""
    errors: list[str] = []
    found, _ = telling(lambda: errors.append(run(*arguments).err))
    return [*found, *("standard error" for text in errors if holds(text))]


def _told_by(error: Exception) -> list[str]:
    found = []
    if any(map(holds, traceback.format_exception(type(error), error, error.__traceback__))):
        found.append("the formatted traceback")
    for link in _chain(error):
        shown = {"str": str(link), "repr": repr(link), "args": link.args, "notes": getattr(link, "__notes__", ())}
        found += [f"{name} of {type(link).__name__}" for name, value in shown.items() if holds(value)]
    return found


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Return an exception and all that led to it, including those that a traceback does not show."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        link = left.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            left += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not f"{record.name}.".startswith(tuple(f"{name}." for name in _OTHERS)):
            text = logging.Formatter().format(record)  # with the traceback, if there is one
            if holds(text) or holds(record.args) or holds(vars(record)):
                self.heard.append(f"the log {record.name}")


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Return, when the block has ended, where logs at any level and warnings revealed the secret."""
    root, ear = logging.getLogger(), _Ear()
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    found: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield found
        found += [f"a {warning.category.__name__}" for warning in warned if holds(str(warning.message))]
        found += ear.heard
    finally:
        root.setLevel(level)
        root.removeHandler(ear)
