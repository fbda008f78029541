"""Where the database file is, who can read it, and what happens if it cannot be created."""

import os
import stat
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.records import agent, message, query
from ..support.workers import forked

VARIABLE = "STRANDS_SQLITE_DB_PATH"
ROOT = Path(__file__).parents[2]

on_posix = pytest.mark.skipif(os.name != "posix", reason="permissions of files are POSIX's")


def open_manager(path: Any = None) -> SQLiteSessionManager:
    return SQLiteSessionManager("home", path)


each_class = pytest.mark.parametrize(
    "open_database", [open_manager, SQLiteSessionRepository], ids=["manager", "repository"]
)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder, without the environment variable."""
    monkeypatch.delenv(VARIABLE, raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def sessions_in(path: Path) -> list[str]:
    return [session_id for (session_id,) in query(path, "SELECT session_id FROM sessions")]


def everything_below(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# -- where it is not --


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("url", "instead"),
    [
        ("sqlite:///foo.db", "foo.db"),
        ("sqlite:////var/lib/foo.db", "/var/lib/foo.db"),
        ("SQLite+aiosqlite:///a/foo.db?mode=ro", "a/foo.db"),
        ("sqlite://", ":memory:"),
        ("file:///var/foo.db", "/var/foo.db"),
        (Path("sqlite:///foo.db"), "foo.db"),
    ],
    ids=str,
)
def test_a_url_is_refused_with_the_path_to_write_instead(url: Any, instead: str, empty_folder: Path) -> None:
    for open_database in (open_manager, SQLiteSessionRepository):
        with pytest.raises(ValueError, match=rf"^db_path=<.*> \| a URL, but must be a path: write {instead}$"):
            open_database(url)
    assert list(empty_folder.iterdir()) == []


def test_the_url_of_another_store_is_refused_without_repeating_its_password(empty_folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^db_path=<postgresql://\.\.\.> \| a URL, but must be the path of a SQLite file$"
    ):
        open_manager("postgresql://user:hunter2@host/agents")
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("name", ["typo.db", "missing/typo.db"])
def test_a_missing_file_that_is_only_to_be_read_is_an_error(name: str, empty_folder: Path) -> None:
    with pytest.raises(SessionException, match=r"typo\.db \| no such file"):
        SQLiteSessionRepository(name, read_only=True)
    assert list(empty_folder.iterdir()) == []


# -- where it is --


def test_without_a_path_the_file_is_sessions_db_in_the_working_folder(empty_folder: Path) -> None:
    with open_manager():
        assert sessions_in(empty_folder / "sessions.db") == ["home"]


def test_the_environment_variable_beats_the_default(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(empty_folder / "variable.db"))
    with open_manager():
        assert sessions_in(empty_folder / "variable.db") == ["home"]
        assert not (empty_folder / "sessions.db").exists()


def test_an_argument_beats_the_environment_variable(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(empty_folder / "variable.db"))
    with open_manager(empty_folder / "argument.db"):
        assert sessions_in(empty_folder / "argument.db") == ["home"]
        assert not (empty_folder / "variable.db").exists()


@each_class
@pytest.mark.parametrize("kind", [str, Path, os.DirEntry], ids=["str", "Path", "DirEntry"])
def test_a_path_is_text_or_path_like(empty_folder: Path, open_database: Any, kind: type) -> None:
    with open_manager(empty_folder / "given.db"):
        pass
    with os.scandir(empty_folder) as entries:
        (entry,) = entries
    given = entry if kind is os.DirEntry else kind(empty_folder / "given.db")
    with open_database(given) as database:
        assert database.read_session("home").session_id == "home"


@pytest.mark.parametrize("given_by", ["argument", "variable"])
def test_a_tilde_is_the_home_folder(empty_folder: Path, monkeypatch: pytest.MonkeyPatch, given_by: str) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(empty_folder))
    path = "~/below/sessions.db"
    if given_by == "variable":
        monkeypatch.setenv(VARIABLE, path)
    with open_manager(path if given_by == "argument" else None):
        assert sessions_in(empty_folder / "below" / "sessions.db") == ["home"]


def test_a_relative_path_stays_where_it_was_when_the_working_folder_changes(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = empty_folder / "elsewhere"
    elsewhere.mkdir()
    with open_manager("below/sessions.db") as manager:
        monkeypatch.chdir(elsewhere)
        manager.create_agent("home", agent("ada"))
        assert query(empty_folder / "below" / "sessions.db", "SELECT agent_id FROM agents") == [("ada",)]
        assert list(elsewhere.iterdir()) == []


@on_posix
@pytest.mark.parametrize(
    "name", ["a b.db", "what?.db", "#1.db", "100%41.db", 'it\'s "quoted".db', "Zoë 日本.db", "file:x.db", "noending"]
)
def test_a_file_may_have_any_name(empty_folder: Path, name: str) -> None:
    with open_manager(f"./{name}"):
        pass
    with open_manager(empty_folder / name):
        pass
    assert [path.name for path in empty_folder.iterdir()] == [name]
    assert sessions_in(empty_folder / name) == ["home"]


@on_posix
@each_class
def test_a_link_to_nothing_is_refused(empty_folder: Path, open_database: Any) -> None:
    (empty_folder / "link.db").symlink_to(empty_folder / "real.db")
    with pytest.raises(SessionException, match=r"link\.db \| a link"):
        open_database("link.db")
    assert not (empty_folder / "real.db").exists()


def test_a_link_leads_to_the_file_that_it_names(empty_folder: Path) -> None:
    (empty_folder / "real.db").touch()
    (empty_folder / "link.db").symlink_to(empty_folder / "real.db")
    with open_manager("link.db") as by_link, open_manager("real.db") as by_name:
        by_link.create_agent("home", agent("ada"))
        assert by_name.read_agent("home", "ada") is not None
    assert not (empty_folder / "link.db-wal").exists()
    assert sessions_in(empty_folder / "real.db") == ["home"]


# -- who can read it --


@on_posix
@each_class
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], indirect=True, ids=oct)
def test_the_file_and_its_companions_are_for_their_owner_only_whatever_the_umask(
    empty_folder: Path, open_database: Any, umask: int
) -> None:
    with open_database("sessions.db"), open_manager("sessions.db") as manager:
        manager.create_agent("home", agent("ada"))
        manager.create_message("home", "ada", message(0))
        modes = {path.name: mode(path) for path in empty_folder.iterdir()}
    assert modes == dict.fromkeys(("sessions.db", "sessions.db-wal", "sessions.db-shm"), 0o600)


@on_posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], indirect=True, ids=oct)
def test_missing_folders_are_created_for_their_owner_only_and_others_left_as_they_are(
    empty_folder: Path, umask: int
) -> None:
    there = empty_folder / "there"
    there.mkdir()
    there.chmod(0o755)
    with open_manager("there/a/b/c/sessions.db"):
        assert mode(there) == 0o755
        for folder in ("a", "a/b", "a/b/c"):
            assert mode(there / folder) == 0o700


@on_posix
def test_a_file_that_its_owner_shared_stays_shared(empty_folder: Path) -> None:
    path = empty_folder / "sessions.db"
    path.touch()
    path.chmod(0o640)
    with open_manager(path):
        assert {mode(file) for file in empty_folder.iterdir()} == {0o640}


# -- where there can be none --


@each_class
@pytest.mark.parametrize("blank", ["", " ", "\t\n"], ids=repr)
def test_an_empty_path_is_refused(empty_folder: Path, open_database: Any, blank: str) -> None:
    with pytest.raises(ValueError, match=r"^db_path \| path cannot be empty$"):
        open_database(blank)
    assert everything_below(empty_folder) == {}


@each_class
@pytest.mark.parametrize("blank", ["", " "], ids=repr)
def test_an_empty_environment_variable_is_refused_and_named(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, open_database: Any, blank: str
) -> None:
    monkeypatch.setenv(VARIABLE, blank)
    with pytest.raises(ValueError, match=rf"^{VARIABLE} \| path cannot be empty$"):
        open_database()
    assert everything_below(empty_folder) == {}


@each_class
@pytest.mark.parametrize("path", [b"sessions.db", 7, True, ["sessions.db"]], ids=repr)
def test_a_path_that_is_not_text_is_a_type_error(empty_folder: Path, open_database: Any, path: Any) -> None:
    with pytest.raises(TypeError):
        open_database(path)
    assert everything_below(empty_folder) == {}


@each_class
@pytest.mark.parametrize("path", ["a\x00b.db", "a\ud800b.db", "\udcff.db"], ids=ascii)
def test_a_path_that_sqlite_cannot_take_is_refused(empty_folder: Path, open_database: Any, path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        open_database(path)
    assert everything_below(empty_folder) == {}


@each_class
def test_a_folder_is_refused(empty_folder: Path, open_database: Any) -> None:
    (empty_folder / "folder").mkdir()
    with pytest.raises(SessionException, match=r"folder \| not a file"):
        open_database("folder")
    assert everything_below(empty_folder) == {empty_folder / "folder": None}


@on_posix
@each_class
def test_a_pipe_is_refused_without_waiting_for_its_other_end(empty_folder: Path, open_database: Any) -> None:
    os.mkfifo(empty_folder / "pipe")
    with pytest.raises(SessionException, match=r"pipe \| not a file"):
        open_database("pipe")


@each_class
@pytest.mark.parametrize("below", ["sessions.db", "a/sessions.db", "a/b/sessions.db"])
def test_a_path_below_a_file_is_refused(empty_folder: Path, open_database: Any, below: str) -> None:
    (empty_folder / "file").write_text("mine")
    with pytest.raises(SessionException, match=r"sessions\.db \| .*Not a directory"):
        open_database(f"file/{below}")
    assert everything_below(empty_folder) == {empty_folder / "file": b"mine"}


@each_class
def test_a_name_that_is_too_long_is_refused(empty_folder: Path, open_database: Any) -> None:
    with pytest.raises(SessionException, match=r"x{300} \| .*File name too long"):
        open_database("x" * 300)
    assert everything_below(empty_folder) == {}


def refusals_of_nobody(path: Path) -> list[str]:
    """Try to open a file as a user who may not write everywhere, as the administrator may; return the errors."""

    def open_it(pipe: Connection) -> None:
        SQLiteSessionManager("warm up", ":memory:").close()  # imports modules that this user could not read
        if os.geteuid() == 0:
            os.setuid(65534)
        for open_database in (SQLiteSessionRepository, lambda path: SQLiteSessionManager("home", path)):
            try:
                open_database(path)
                pipe.send("")
            except SessionException as error:
                pipe.send(str(error))

    with forked(open_it) as pipe:
        return [pipe.recv(), pipe.recv()]


@on_posix
@pytest.mark.parametrize(
    ("path", "locked", "permissions"),
    [
        ("locked/sessions.db", "locked", 0o555),
        ("locked/below/sessions.db", "locked", 0o555),
        ("locked/hidden.db", "locked", 0o000),
        ("there.db", "there.db", 0o444),
        ("there.db", "there.db", 0o000),
        ("locked/there.db", "locked", 0o555),
    ],
    ids=["folder", "missing folder", "unreadable folder", "read-only file", "unreadable file", "file in a folder"],
)
def test_an_unwritable_place_is_refused_and_left_as_it_was(path: str, locked: str, permissions: int) -> None:
    with tempfile.TemporaryDirectory() as name:  # other users can open it, unlike tmp_path
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "locked").mkdir()
        for file in ("there.db", "locked/there.db"):
            with open_manager(folder / file):
                pass
            (folder / file).chmod(0o666)
        (folder / "locked").chmod(0o777)
        before = everything_below(folder)
        (folder / locked).chmod(permissions)
        if os.geteuid() == 0:
            for item in before:
                os.chown(item, 65534, -1)

        refusals = refusals_of_nobody(folder / path)

        (folder / locked).chmod(0o777)
        for refusal in refusals:
            assert refusal.startswith(f"{(folder / path).resolve()} | ")
        assert everything_below(folder) == before
