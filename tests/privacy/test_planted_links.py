"""Links and other things that another user plants, at any moment, where a file is to be created.

Nothing is written anywhere but to the named place: the target of a link keeps its content and permissions, and a
missing target is not created. Where others may write to the folder without limits, they can take files away and read
those that they put there first; even there, nothing is written elsewhere.
"""

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from threading import Thread

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import (
    FileSessionRepository,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    copy_session,
)

from ..support.command_line import run
from ..support.file_watch import CAN_WATCH, Watch
from ..support.records import agent, message
from ..support.tiers import tier
from ..support.workers import in_processes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows lets only some users make links")

MINE = b"somebody's own text\n"
SAID = "what was said"
NOBODY, SOMEBODY_ELSE = 65534, 65533


def a_dangling_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim.with_name("nowhere"))


def a_link_to_a_file(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def a_chain_of_links(place: Path, victim: Path) -> None:
    victim.with_name("chain").symlink_to(victim)
    place.symlink_to(victim.with_name("chain"))


def a_dangling_chain(place: Path, victim: Path) -> None:
    victim.with_name("chain").symlink_to("nowhere")
    place.symlink_to(victim.with_name("chain"))


def a_circle_of_links(place: Path, victim: Path) -> None:
    victim.with_name("circle").symlink_to(place)
    place.symlink_to(victim.with_name("circle"))


def a_link_to_a_folder(place: Path, victim: Path) -> None:
    place.symlink_to(victim.parent)


def a_hard_link(place: Path, victim: Path) -> None:
    os.link(victim, place)


def a_folder(place: Path, victim: Path) -> None:
    place.mkdir()


def a_pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place)


def a_socket(place: Path, victim: Path) -> None:
    here = os.getcwd()
    os.chdir(place.parent)  # the path of a socket may have some hundred characters only
    try:
        socket.socket(socket.AF_UNIX).bind(place.name)
    finally:
        os.chdir(here)


Plant = Callable[[Path, Path], None]
Work = Callable[[Path], None]
PLANTS: tuple[Plant, ...] = (
    *(a_dangling_link, a_link_to_a_file, a_chain_of_links, a_dangling_chain, a_circle_of_links, a_link_to_a_folder),
    *(a_hard_link, a_folder, a_pipe, a_socket),
)
each_plant = pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where files are to be created."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """Another user's file, alone in its folder, which must be unchanged after the test."""
    (tmp_path / "private").mkdir()
    path = tmp_path / "private" / "victim"
    path.write_bytes(MINE)
    path.chmod(0o644)
    yield path
    assert path.read_bytes() == MINE
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert {file.name for file in path.parent.iterdir() if not file.is_symlink()} == {"victim"}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SQLiteSessionManager]:
    """A database elsewhere, to be copied."""
    with SQLiteSessionManager("home", tmp_path / "source" / "source.db") as manager:
        fill(manager)
        yield manager


def fill(manager: SQLiteSessionManager) -> None:
    manager.create_agent("home", agent("ada"))
    manager.create_message("home", "ada", message(0, SAID))


def create(folder: Path, name: str = "target") -> None:
    with suppress(SessionException), SQLiteSessionManager("home", folder / name, timeout=1) as manager:
        fill(manager)


def ends(work: Callable[[], None]) -> bool:
    """Return whether some work ends, or waits for the other end of a pipe."""
    failures: list[Exception] = []

    def try_it() -> None:
        try:
            work()
        except Exception as error:
            failures.append(error)

    thread = Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(10)
    for failure in failures:
        raise failure
    return not thread.is_alive()


def what_is_there(place: Path) -> tuple[int, str, list[str]]:
    """Describe a place without opening it."""
    status = place.lstat()
    link = os.readlink(place) if place.is_symlink() else ""
    names = sorted(os.listdir(place)) if stat.S_ISDIR(status.st_mode) else []
    return status.st_ino, link, names


# -- planted before --


@each_plant
def test_what_was_planted_where_a_new_database_would_go_is_refused_and_left(
    plant: Plant, folder: Path, victim: Path
) -> None:
    place = folder / "sessions.db"
    plant(place, victim)
    before = what_is_there(place)
    for open_database in (SQLiteSessionRepository, lambda path: SQLiteSessionManager("home", path)):
        with pytest.raises(SessionException, match=r" \| "):
            open_database(place)
    assert what_is_there(place) == before
    assert os.listdir(folder) == ["sessions.db"]


@each_plant
@pytest.mark.parametrize("companion", ["-wal", "-shm", "-journal"])
def test_what_was_planted_beside_a_new_database_is_not_written_through(
    plant: Plant, companion: str, folder: Path, victim: Path
) -> None:
    plant(folder / f"target{companion}", victim)
    assert ends(lambda: create(folder))


@each_plant
@pytest.mark.parametrize("what", ["backup", "export", "import", "copy"])
def test_what_was_planted_where_a_copy_would_go_is_refused_and_left(
    plant: Plant, what: str, folder: Path, victim: Path, manager: SQLiteSessionManager
) -> None:
    place = folder / "copy"
    plant(place, victim)
    before = what_is_there(place)
    source = manager._database.path
    exported = Path(source).with_name("export.jsonl")
    if what == "backup":
        with pytest.raises(SessionException, match=r"exists already"):
            manager.backup(place)
    if what == "export":
        assert run("--db", source, "export", "--all", "-o", place).code == 1
    if what == "import":
        assert run("--db", source, "export", "--all", "-o", exported).code == 0
        assert run("--db", place, "import", "--create", exported).code == 1
    if what == "copy":
        assert run("copy", source, place, "--all").code == 1
    assert what_is_there(place) == before
    assert os.listdir(folder) == ["copy"]


@each_plant
@pytest.mark.parametrize("companion", ["-wal", "-journal"])
def test_what_was_planted_beside_a_backup_is_refused_and_left(
    plant: Plant, companion: str, folder: Path, victim: Path, manager: SQLiteSessionManager
) -> None:
    place = folder / f"copy{companion}"
    plant(place, victim)
    with pytest.raises(SessionException, match=rf"copy{companion} \| exists already"):
        manager.backup(folder / "copy")
    assert os.listdir(folder) == [place.name]


@pytest.mark.parametrize("name", ["session.json", "agents/agent_ada/messages/message_0.json"])
@each_plant
def test_what_was_planted_where_a_copy_in_a_folder_would_go_is_not_written_through(
    plant: Plant, name: str, folder: Path, victim: Path, manager: SQLiteSessionManager
) -> None:
    place = folder / "session_home" / name
    place.parent.mkdir(parents=True)
    plant(place, victim)

    def copy() -> None:
        with suppress(SessionException):
            copy_session(manager, FileSessionRepository(folder), "home")

    assert ends(copy)


# -- planted by somebody else, in a folder such as /tmp --


def plant_an_open_file(index: int, place: Path, content: bytes) -> None:
    os.setuid(SOMEBODY_ELSE)
    place.write_bytes(content)
    place.chmod(0o666)


def work_as_nobody(index: int, folder: Path, *, talking: bool = True) -> None:
    os.setuid(NOBODY)
    with suppress(SessionException), SQLiteSessionManager("home", folder / "target", timeout=1) as manager:
        if not talking:
            return
        fill(manager)
        in_files_of_others = [path for path in folder.iterdir() if path.stat().st_uid != NOBODY]
        assert [path.name for path in in_files_of_others if SAID.encode() in path.read_bytes()] == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the administrator can be two users")
@pytest.mark.parametrize("content", [b"", b"\x37\x7f\x06\x82" + bytes(100)], ids=["empty", "not empty"])
@pytest.mark.parametrize("companion", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("exists", [False, True], ids=["a new database", "a database that exists"])
def test_nothing_is_written_to_a_file_that_another_user_planted_beside_a_database(
    companion: str, content: bytes, exists: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o1777)
        place = Path(name) / f"target{companion}"
        if exists:
            in_processes(1, partial(work_as_nobody, talking=False), Path(name), start_method="fork")
        in_processes(1, plant_an_open_file, place, content, start_method="fork")
        in_processes(1, work_as_nobody, Path(name), start_method="fork")
        assert not place.exists() or SAID.encode() not in place.read_bytes()


# -- planted at the worst moment --


def backup(folder: Path) -> None:
    with suppress(SessionException), SQLiteSessionRepository(folder.with_name("source.db")) as repository:
        repository.backup(folder / "target")


def export(folder: Path) -> None:
    run("--db", folder.with_name("source.db"), "export", "--all", "-o", folder / "target")


def create_below(folder: Path) -> None:
    create(folder, "below/target")


def attacked(index: int, work: Work, folder: Path, victim: Path, plant: Plant, moment: int) -> int:
    """Work while another user replaces all files of the folder by links, right before a step; return the step count."""
    steps = 0

    def swap(step: str, path: str) -> None:
        nonlocal steps
        if path.removeprefix("file:").startswith(str(folder)):
            steps += 1
            if steps == moment:
                for there in {*folder.iterdir(), folder / "target"}:
                    with suppress(FileNotFoundError):
                        there.rename(folder.with_name(f"aside {there.name}"))
                    plant(there, victim)

    Watch(swap)
    work(folder)
    return steps


@pytest.mark.long
@pytest.mark.skipif(not CAN_WATCH, reason="SQLite's system calls cannot be watched here")
@pytest.mark.parametrize(
    ("work", "plant"),
    tier(
        list(product([create, create_below, backup, export], [a_dangling_link, a_link_to_a_file])),
        quick=[(create, a_link_to_a_file)],
    ),
    ids=lambda function: function.__name__,
)
def test_links_that_appear_at_any_moment_are_not_written_through(work: Work, plant: Plant, tmp_path: Path) -> None:
    with SQLiteSessionManager("home", tmp_path / "source.db") as manager:
        fill(manager)
    harm = []
    moment = steps = 0
    while moment == steps:
        moment += 1
        place = tmp_path / str(moment)
        folder, victim = place / "work", place / "private" / "victim"
        folder.mkdir(parents=True)
        victim.parent.mkdir()
        victim.write_bytes(MINE)
        victim.chmod(0o644)
        shutil.copy(tmp_path / "source.db", place)
        (steps,) = in_processes(1, attacked, work, folder, victim, plant, moment, start_method="fork")
        steps = moment if steps >= moment else 0
        if victim.read_bytes() != MINE:
            harm.append(f"{moment}: the victim was written")
        if stat.S_IMODE(victim.stat().st_mode) != 0o644:
            harm.append(f"{moment}: the victim has other permissions")
        harm += [f"{moment}: {path.name} was created" for path in victim.parent.iterdir() if path != victim]
    assert moment > 5
    assert harm == []
