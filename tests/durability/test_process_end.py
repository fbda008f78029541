"""While a process ends, what is stored is stored or refused clearly, and nothing hangs or crashes.

The programs are in `tests/support/endings.py`.
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..support.child_process import in_a_child
from ..support.command_line import ROOT, environment
from ..support.every_operation import IN_THE_PROCESS, every_operation
from ..support.process_endings import ENDINGS, PATIENCE
from ..support.tiers import tier

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the programs are forked"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]

# Where there is still everything that storing needs.
STORES = (
    "early_handler",
    "early_handler_takes_a_turn",
    "early_handler_opens",
    "late_handler",
    "finalizer",
    "del_of_a_local",
)
QUICK = (
    "early_handler",
    "del_of_a_local",
    "del_of_a_global",
    "daemon_thread_waits",
    "raises",
    "every_operation_in_a_handler",
)
CRASHES = ("Fatal Python error", "Segmentation fault", "it hung")
UNCLEAR = (
    "ImportError", "TypeError", "AttributeError", "NameError", "ProgrammingError", "OperationalError", "RuntimeError:"
)  # fmt: skip


def endings(*left_out: str) -> list[Any]:
    """The programs, as parameters; the quick tests run one of each kind."""
    names = [name for name in ENDINGS if name not in left_out]
    return tier(names, quick=[name for name in QUICK if name in names])


@pytest.fixture(scope="module")
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How the programs ended: every one, or those of the quick tests."""
    folder = tmp_path_factory.mktemp("endings")
    tested = [item for item in request.session.items if item.path == request.path]
    names = ENDINGS if any(item.get_closest_marker("long") for item in tested) else QUICK
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.process_endings", str(folder), *names],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return {how["name"]: {**how, "folder": folder} for how in map(json.loads, done.stdout.splitlines())}


@pytest.mark.every_case
@pytest.mark.parametrize("name", endings())
def test_a_process_ends_at_once_and_says_clearly_what_it_could_not_store(
    name: str, ended: dict[str, dict[str, Any]]
) -> None:
    how = ended[name]
    assert not any(crash in how["told"] for crash in CRASHES), how["told"]
    assert how["took"] < PATIENCE, how  # far below the 30 s that a write waits for another
    assert how["code"] == (1 if name == "raises" else 0), how
    if name != "raises":
        assert not any(word in how["told"] for word in UNCLEAR), how["told"]
    else:
        assert "ImportError" not in how["told"], how["told"]


@pytest.mark.parametrize("name", tier(STORES, quick=[name for name in STORES if name in QUICK]))
def test_an_exit_handler_and_a_finalizer_store_as_ever(name: str, ended: dict[str, dict[str, Any]]) -> None:
    how = ended[name]
    assert "stored" in how["told"], how["told"]
    assert "last words" in str(rows(how["folder"] / f"{name}.db")), how["told"]


@pytest.mark.every_case
@pytest.mark.parametrize("name", endings("every_operation_in_a_handler"))
def test_the_file_is_sound_after_any_end_of_a_process(name: str, ended: dict[str, dict[str, Any]]) -> None:
    stored = rows(ended[name]["folder"] / f"{name}.db")
    assert [number for number, _ in stored] == list(range(len(stored)))
    assert ("last words" in str(stored)) == ("stored" in ended[name]["told"]) or name == "raises"


def test_every_operation_works_in_an_exit_handler(ended: dict[str, dict[str, Any]]) -> None:
    assert ended["every_operation_in_a_handler"]["told"].split("end\n")[1] == "called\n"


def rows(path: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return connection.execute("SELECT message_id, message FROM messages ORDER BY message_id").fetchall()


# -- other places --


@pytest.mark.every_case
@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])
@pytest.mark.parametrize("place", [*IN_THE_PROCESS, "a forked child"])
def test_every_operation_works_in(place: str, stride: int, tmp_path: Path) -> None:
    inside: Callable[[Callable[[], Any]], Any] = IN_THE_PROCESS.get(place, lambda work: work())
    assert in_a_child(lambda: inside(lambda: every_operation(tmp_path, stride))) == []


@pytest.mark.long
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_every_operation_works_under_the_monkey_patching_of(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.places", library, str(tmp_path / "folder")],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "done\n", done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
