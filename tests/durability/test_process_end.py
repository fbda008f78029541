"""While a process ends, every write is stored or refused clearly, and nothing hangs or crashes.

The programs are in `tests/support/process_endings.py`.
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

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the programs are forked"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]

# Endings at which everything that storing needs still exists.
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
    "daemon_thread_waits",
    "del_after_a_wait",
    "every_operation_in_a_handler",
)
CRASHES = ("Fatal Python error", "Segmentation fault", "it hung")
UNCLEAR = (
    "ImportError", "TypeError", "AttributeError", "NameError", "ProgrammingError", "OperationalError", "RuntimeError:"
)  # fmt: skip


@pytest.mark.parametrize("names", [QUICK, pytest.param(tuple(ENDINGS), marks=pytest.mark.long)], ids=["some", "all"])
def test_a_process_ends_at_once_and_says_clearly_what_it_could_not_store(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.process_endings", str(tmp_path), *names],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert [how["name"] for how in ended] == list(names)
    for how in ended:
        assert_ends_at_once_and_clearly(how)
        if how["name"] == "every_operation_in_a_handler":
            assert how["told"].split("end\n")[1] == "called\n"
        else:
            assert_is_sound_and_holds_what_was_stored(tmp_path / f"{how['name']}.db", how)


def assert_ends_at_once_and_clearly(how: dict[str, Any]) -> None:
    assert not any(crash in how["told"] for crash in CRASHES), how
    assert how["took"] < PATIENCE, how  # far below the 30 s that a write waits for another
    if how["name"] == "raises":
        assert how["code"] == 1, how
        assert "ImportError" not in how["told"], how
    else:
        assert how["code"] == 0, how
        assert not any(word in how["told"] for word in UNCLEAR), how
    assert "stored" in how["told"] or how["name"] not in STORES, how


def assert_is_sound_and_holds_what_was_stored(path: Path, how: dict[str, Any]) -> None:
    stored = rows(path)
    assert [number for number, _ in stored] == list(range(len(stored))), how
    assert ("last words" in str(stored)) == ("stored" in how["told"]) or how["name"] == "raises", how


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
        [sys.executable, "-m", "tests.support.every_operation", library, str(tmp_path / "folder")],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "done\n", done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
