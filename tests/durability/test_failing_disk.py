"""A full or failing disk is an error that names the file, leaves nothing half done, and ends when the disk works again.

The disk fails in one of several ways, at some of the requests that a piece of work makes (quick) or at each (long). A
child process does the work; this process looks at what is on the disk.
"""

import ctypes
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from strands import Agent
from strands.types.content import Message
from strands.types.exceptions import EventLoopException, SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.disk_calls import missing
from ..support.disk_faults import FAULTS, Attempt, Fault, attempts
from ..support.disk_workloads import AGENT, WORKS
from ..support.numbered_messages import live_agent
from ..support.recording_manager import held
from ..support.workers import forked

if missing():
    pytest.skip(missing(), allow_module_level=True)

NOBODY = 65534


def problems_of(attempt: Attempt) -> list[str]:
    """Return what is wrong with what a child process did, and with what it has left on the disk."""
    problems = list(attempt.problems)
    if not attempt.path.exists():
        return problems
    path = attempt.path
    if attempt.after_failure:  # as it would be found if the process had died now
        path = attempt.folder / "copy" / "sessions.db"
        path.parent.mkdir()
        for suffix in ("", "-wal", "-journal"):
            if os.path.exists(f"{attempt.path}{suffix}"):
                shutil.copy(f"{attempt.path}{suffix}", f"{path}{suffix}")
    try:
        with SQLiteSessionRepository(path, synchronous="NORMAL") as repository:
            problems += repository.check()
        if attempt.held is not None and not attempt.after_failure and not attempt.problems:
            with SQLiteSessionManager("session", path, synchronous="NORMAL") as manager:
                if held(live_agent(manager, AGENT)) != attempt.held:
                    problems.append("another agent resumes than the one that was live")
    except SessionException as error:
        problems.append(f"a healthy process fails: {error!r}")
    return problems


def try_out(name: str, faults: Callable[[dict[int, int]], list[Fault]], folder: Path) -> tuple[int, list[str]]:
    """Do some work under some faults; return how often the disk failed, and what was wrong."""
    failures = 0
    wrong: list[str] = []
    with forked(lambda pipe: attempts(WORKS[name], folder, faults, pipe)) as pipe:
        while (attempt := pipe.recv()) is not None:
            when = "after the failure" if attempt.after_failure else "in the end"
            failures += attempt.after_failure and attempt.failed != ""
            wrong += [f"{attempt.failed}, {when}: {problem}" for problem in problems_of(attempt)]
            if not attempt.after_failure:
                shutil.rmtree(attempt.folder)
            pipe.send("go on")
    return failures, wrong


@pytest.mark.parametrize("name", WORKS)
def test_a_failing_disk_is_an_error_and_work_continues_when_it_works_again(name: str, tmp_path: Path) -> None:
    def some(counts: dict[int, int]) -> list[Fault]:
        chance = random.Random(name)
        kinds = [fault for fault in FAULTS.values() if counts[fault["error"]]]
        return [Fault(chance.randrange(counts[kind["error"]]), **kind) for kind in chance.choices(kinds, k=3)]

    failures, wrong = try_out(name, some, tmp_path)
    assert wrong == []
    assert failures > 0


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", WORKS)
def test_work_continues_after_a_failure_of_any_disk_request(
    name: str, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """Each request that some work makes fails once, in each of five ways."""

    def every(counts: dict[int, int]) -> list[Fault]:
        faults = [Fault(number, **kind) for kind in FAULTS.values() for number in range(counts[kind["error"]])]
        return random.Random(name).sample(faults, scaled(len(faults)))

    _, wrong = try_out(name, every, tmp_path)
    assert wrong == []


def limit(size: int) -> None:
    """Let no file of this process grow beyond a size."""
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def say(agent: Agent, text: str) -> bool:
    """Have a turn; return whether it could be stored."""
    try:
        agent(text)
    except (SessionException, EventLoopException) as error:
        cause = error if isinstance(error, SessionException) else error.__cause__
        assert isinstance(cause, SessionException)
        assert "sessions.db | " in str(cause)
        return False
    return True


def converse_until_it_fails(path: Path, make_room: Callable[[], object]) -> str:
    """Converse until there is no room, three times, and continue with the same agent; return what it holds."""

    def log() -> list[Message]:
        return [message.to_message() for message in manager.list_messages("session", AGENT)]

    with SQLiteSessionManager("session", path) as manager:
        agent = live_agent(manager, AGENT)
        for _ in range(3):
            before = log()
            turns = 0
            while say(agent, f"{turns} " * 1000):
                turns += 1
                before += agent.messages[-2:]
                assert turns < 10_000
            assert turns > 0
            assert log()[: len(before)] == before
            assert not say(agent, "x" * 20_000)
            assert log()[: len(before)] == before
            assert manager.check() == []
            make_room()
            assert say(agent, "there is room again")
            assert log()[-2:] == agent.messages[-2:]
        return held(agent)


@pytest.mark.long
def test_a_conversation_continues_when_a_file_may_grow_again(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    room = 500_000

    def more_room() -> None:
        nonlocal room
        room += 500_000
        limit(room)

    def work(pipe: Connection) -> None:
        limit(room)
        pipe.send(converse_until_it_fails(path, more_room))

    with forked(work) as pipe:
        found = pipe.recv()
    with SQLiteSessionManager("session", path) as manager:
        assert manager.check() == []
        assert held(live_agent(manager, AGENT)) == found


def test_a_conversation_continues_when_a_full_file_system_has_room_again(tmp_path: Path) -> None:
    ballast = [tmp_path / f"ballast {number}" for number in range(4)]

    def work(pipe: Connection) -> None:
        reason = mount_a_small_file_system(tmp_path, 4_000_000)
        pipe.send(reason)
        if reason:
            return
        for path in ballast:
            path.write_bytes(bytes(500_000))
        path = tmp_path / "sessions.db"
        found = converse_until_it_fails(path, lambda: ballast.pop().unlink())
        with forked(lambda answer: answer.send(resumed(path))) as answer:
            assert answer.recv() == found
        pipe.send("done")

    with forked(work) as pipe:
        reason = pipe.recv()
        assert reason or pipe.recv() == "done"
    if reason:
        pytest.skip(reason)


def resumed(path: Path) -> str:
    """Return what another agent holds."""
    with SQLiteSessionManager("session", path) as manager:
        assert manager.check() == []
        return held(live_agent(manager, AGENT))


def mount_a_small_file_system(folder: Path, size: int) -> str:
    """Let this process see a new file system at a folder; return why it cannot, or nothing."""
    library = ctypes.CDLL(None, use_errno=True)
    new_mounts, new_user, private = 0x20000, 0x10000000, 1 << 18 | 1 << 14
    user, group = os.geteuid(), os.getegid()
    if library.unshare(new_mounts if user == 0 else new_mounts | new_user):
        return f"no mounts of its own for a process: {os.strerror(ctypes.get_errno())}"
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    options = f"size={size},mode=700".encode()
    if library.mount(None, b"/", None, private, None) or library.mount(
        b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options
    ):
        return f"a file system cannot be mounted: {os.strerror(ctypes.get_errno())}"
    return ""


def test_an_unreadable_folder_is_an_error_that_names_the_file() -> None:
    """Then the package cannot check, either, whether the file is still the one that was opened."""

    def work(pipe: Connection) -> None:
        if os.geteuid() == 0:  # who may look into everything
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        with SQLiteSessionManager("session", folder / "sessions.db") as manager:
            agent = live_agent(manager, AGENT)
            assert say(agent, "hello")
            folder.chmod(0)
            assert not say(agent, "are you there?")
            with pytest.raises(SessionException, match=r"sessions\.db \| "):
                manager.list_sessions()
            folder.chmod(0o700)
            assert say(agent, "are you there?")
            pipe.send((held(agent), resumed(folder / "sessions.db")))

    with tempfile.TemporaryDirectory() as name:  # pytest's own are within folders of this user
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        with forked(work) as pipe:
            live, again = pipe.recv()
    assert live == again
