"""Settings are checked before anything is created, and whatever is closed says so.

`database/test_path.py` tests where the file is and who can read it.
"""

import gc
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from strands import Agent
from strands.types.exceptions import SessionException

import strands_sqlite_session_manager as package
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.records import SESSION_ID_CALLS, agent, dump, message, query
from ..support.scripted_model import ScriptedModel

ROOT = Path(__file__).parents[2]


def open_manager(path: Any, **settings: Any) -> SQLiteSessionManager:
    return SQLiteSessionManager("home", path, **settings)


each_class = pytest.mark.parametrize(
    "open_database", [open_manager, SQLiteSessionRepository], ids=["manager", "repository"]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "sessions.db"


def metadata_in(path: Path, session_id: str = "home") -> dict[str, str]:
    return dict(query(path, "SELECT key, value FROM session_metadata WHERE session_id = ?", session_id))


# -- settings --


@each_class
@pytest.mark.parametrize("synchronous", ["OFF", "EXTRA", "full", "", None, 2, True, ["FULL"]], ids=repr)
def test_an_unsupported_synchronous_is_refused(path: Path, open_database: Any, synchronous: Any) -> None:
    with pytest.raises(ValueError, match=r"^synchronous=<.*> \| must be 'FULL' or 'NORMAL'$"):
        open_database(path, synchronous=synchronous)
    assert not path.parent.exists()


@each_class
@pytest.mark.parametrize(
    "timeout", [0, 0.0, -1, -0.1, float("nan"), float("inf"), 1e300, True, "30", None, [1]], ids=repr
)
def test_a_timeout_that_is_not_a_positive_number_of_seconds_is_refused(
    path: Path, open_database: Any, timeout: Any
) -> None:
    with pytest.raises(ValueError, match=r"^timeout=<.*> \| must be a positive number of seconds"):
        open_database(path, timeout=timeout)
    assert not path.parent.exists()


@each_class
@pytest.mark.parametrize(
    "settings", [{}, {"synchronous": "FULL"}, {"synchronous": "NORMAL"}, {"timeout": 1}, {"timeout": 0.001}], ids=str
)
def test_supported_settings_are_accepted(path: Path, open_database: Any, settings: dict[str, Any]) -> None:
    with open_database(path, **settings), open_manager(path) as manager:
        manager.create_agent("home", agent("ada"))
        assert manager.read_agent("home", "ada") is not None


@each_class
@pytest.mark.filterwarnings("error")
def test_opening_and_closing_emit_no_warning(path: Path, open_database: Any) -> None:
    for where in (path, ":memory:"):
        with open_database(where) as database:
            assert database.read_session("nowhere") is None


@each_class
def test_an_unknown_keyword_is_a_type_error(path: Path, open_database: Any) -> None:
    with pytest.raises(TypeError, match="journal_mode"):
        open_database(path, journal_mode="DELETE")
    assert not path.parent.exists()


def test_settings_are_keyword_only(path: Path) -> None:
    for arguments in (("home", path, {"user": "42"}), ("home", path, None, "FULL")):
        with pytest.raises(TypeError, match="positional"):
            SQLiteSessionManager(*arguments)
    with pytest.raises(TypeError, match="positional"):
        SQLiteSessionRepository(path, "FULL")
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("session_id", "kind"),
    [
        ("", ValueError),
        (" ", ValueError),
        ("a/b", ValueError),
        ("\ud800", ValueError),
        (None, TypeError),
        (7, TypeError),
    ],
)
def test_a_session_id_that_is_not_allowed_is_refused_before_anything_is_created(
    path: Path, session_id: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"^session_id="):
        SQLiteSessionManager(session_id, path)
    assert not path.parent.exists()


def test_a_repository_creates_no_session(path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        assert repository.read_session("home") is None
        assert query(path, "SELECT * FROM sessions") == []


# -- metadata --


def test_metadata_is_stored_as_rows_of_the_session(path: Path) -> None:
    metadata = {"user_id": "42", "名": "Zoë \x00", "": ""}
    with open_manager(path, metadata=MappingProxyType(metadata)) as manager:
        assert metadata_in(path) == metadata
        assert [found.metadata for found in manager.list_sessions()] == [metadata]


def test_without_metadata_a_session_has_none(path: Path) -> None:
    for metadata in (None, {}):
        with open_manager(path, metadata=metadata):
            assert metadata_in(path) == {}


def test_metadata_is_merged_into_that_of_the_session_and_of_no_other(path: Path) -> None:
    SQLiteSessionManager("other", path, metadata={"user": "other"}).close()
    for metadata in ({"user": "42", "title": "old"}, None, {}, {"title": "new", "tag": "x"}):
        open_manager(path, metadata=metadata).close()
    assert metadata_in(path) == {"user": "42", "title": "new", "tag": "x"}
    assert metadata_in(path, "other") == {"user": "other"}


def test_metadata_that_is_stored_already_changes_nothing_in_the_file(path: Path) -> None:
    with open_manager(path, metadata={"user": "42", "tag": "x"}):
        before = dump(path)
        open_manager(path, metadata={"tag": "x"}).close()
        assert dump(path) == before


@pytest.mark.parametrize(
    "metadata", [{"user": 42}, {"user": None}, {"user": b"42"}, {"user": ["42"]}, {42: "user"}, {None: "user"}], ids=str
)
def test_metadata_that_holds_anything_but_strings_is_a_type_error_before_anything_is_created(
    path: Path, metadata: Mapping[Any, Any]
) -> None:
    with pytest.raises(TypeError, match=r"^metadata\[.*\] \| keys and values must be strings$"):
        open_manager(path, metadata=metadata)
    assert not path.parent.exists()


@pytest.mark.parametrize("metadata", [{"user": "a\ud800"}, {"user": "\ud83d\ude00"}, {"\udfff": "42"}], ids=ascii)
def test_metadata_that_is_not_valid_unicode_is_refused_before_anything_is_created(
    path: Path, metadata: Mapping[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"^metadata\['.*'\] \| cannot contain lone surrogates$"):
        open_manager(path, metadata=metadata)
    assert not path.parent.exists()


# -- closing --


@each_class
def test_a_database_is_its_own_context_manager(path: Path, open_database: Any) -> None:
    database = open_database(path)
    with database as inside:
        assert inside is database
        assert database.read_session("nowhere") is None
    with pytest.raises(SessionException, match=r"sessions\.db \| this object was closed; open the file again$"):
        database.read_session("nowhere")


@each_class
def test_leaving_the_with_block_closes_and_passes_errors_through(path: Path, open_database: Any) -> None:
    database = open_database(path)
    with pytest.raises(ZeroDivisionError), database:
        raise ZeroDivisionError
    with pytest.raises(SessionException, match="was closed"):
        database.read_session("home")


@each_class
def test_closing_twice_is_fine(path: Path, open_database: Any) -> None:
    database = open_database(path)
    with database:
        database.close()
    database.close()


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_every_call_on_a_closed_manager_says_that_it_was_closed(path: Path, where: str) -> None:
    manager = open_manager(path if where == "file" else where)
    manager.close()
    for call in SESSION_ID_CALLS.values():
        with pytest.raises(SessionException, match="was closed"):
            call(manager, "home")


def test_an_agent_whose_manager_was_closed_says_so_and_stores_nothing(path: Path) -> None:
    manager = open_manager(path)
    live = Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None)
    live("hello")
    before = dump(path)
    manager.close()
    with pytest.raises(SessionException, match="was closed"):
        live("are you there?")
    assert dump(path) == before


@pytest.mark.parametrize("other_path", ["sessions.db", "../folder/sessions.db"], ids=["same path", "other path"])
def test_closing_one_manager_leaves_another_on_the_file_open(path: Path, other_path: str) -> None:
    one, other = open_manager(path), open_manager(path.parent / other_path)
    one.create_agent("home", agent("ada"))
    one.close()
    other.create_message("home", "ada", message(0))
    assert len(other.list_messages("home", "ada")) == 1
    with pytest.raises(SessionException, match="was closed"):
        one.list_messages("home", "ada")
    other.close()


def test_a_closed_file_has_no_companions_and_can_be_opened_again(path: Path) -> None:
    with open_manager(path) as manager:
        manager.create_agent("home", agent("ada"))
    assert [file.name for file in path.parent.iterdir()] == ["sessions.db"]
    with open_manager(path) as manager:
        assert manager.read_agent("home", "ada") is not None


def test_an_unclosed_manager_is_closed_when_its_last_reference_is_gone(path: Path) -> None:
    gc.disable()  # it does not take the garbage collector
    try:
        manager = open_manager(path)
        manager.create_agent("home", agent("ada"))
        del manager
        assert [file.name for file in path.parent.iterdir()] == ["sessions.db"]
    finally:
        gc.enable()


# -- in memory --


@pytest.mark.parametrize("given_by", ["argument", "variable"])
def test_a_database_in_memory_is_private_to_one_manager_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_by: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", ":memory:")
    given = ":memory:" if given_by == "argument" else None
    with open_manager(given) as one, open_manager(given) as other, SQLiteSessionRepository(given) as repository:
        one.create_agent("home", agent("ada"))
        assert one.read_agent("home", "ada") is not None
        assert other.read_agent("home", "ada") is None
        assert repository.read_session("home") is None
        one.close()
        other.create_agent("home", agent("bob"))
        assert other.read_agent("home", "bob") is not None
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_memory_works_from_many_threads() -> None:
    with open_manager(":memory:") as manager, ThreadPoolExecutor(16) as threads:

        def converse(agent_id: str) -> list[str]:
            manager.create_agent("home", agent(agent_id))
            for message_id in range(25):
                manager.create_message("home", agent_id, message(message_id, f"{agent_id} {message_id}"))
            return [found.message["content"][0]["text"] for found in manager.list_messages("home", agent_id)]

        agent_ids = [f"agent {number}" for number in range(16)]
        for agent_id, texts in zip(agent_ids, threads.map(converse, agent_ids), strict=True):
            assert texts == [f"{agent_id} {message_id}" for message_id in range(25)]


def test_an_agent_can_keep_its_session_in_memory() -> None:
    with open_manager(":memory:") as manager:
        live = Agent(model=ScriptedModel("hello"), session_manager=manager, agent_id="ada", callback_handler=None)
        live("hi")
        stored = [found.to_message() for found in manager.list_messages("home", "ada")]
        assert [(said["role"], said["content"]) for said in stored] == [
            ("user", [{"text": "hi"}]),
            ("assistant", [{"text": "hello"}]),
        ]


# -- the package --


def test_importing_the_package_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import strands_sqlite_session_manager as package\n"
        "assert set(package.__all__) <= set(dir(package))\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(loaded - set(sys.stdlib_module_names)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['strands_sqlite_session_manager']"


def test_the_package_lists_its_public_names_and_has_them() -> None:
    assert {"SQLiteSessionManager", "SQLiteSessionRepository", "StaleSessionException"} <= set(package.__all__)
    assert {*package.__all__, "__version__"} <= set(dir(package))
    for name in package.__all__:
        if name == "SQLiteStorage" and importlib.util.find_spec("strands.storage") is None:
            continue  # an older Strands; the name says so
        assert getattr(package, name).__name__ == name


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'strands_sqlite_session_manager' has no attribute 'Session'"):
        package.Session  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    try:
        installed = importlib.metadata.version("strands-sqlite-session-manager")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package runs from the checkout here, without metadata")
    assert package.__version__ == installed
