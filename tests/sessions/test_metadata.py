"""Metadata holds any strings under any keys: merged, changed, and matched exactly."""

import enum
import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from strands_sqlite_session_manager import SessionNotFoundException, SQLiteSessionManager, SQLiteSessionRepository

from ..support.conversations import build
from ..support.dated_records import add_session, listed
from ..support.records import dump, query
from ..support.tiers import tier
from ..support.workers import in_processes, in_threads

SESSION = "session"


def known(repository: SQLiteSessionRepository, session_id: str = SESSION) -> dict[str, str]:
    """Return the metadata of a session."""
    (found,) = [summary for summary in repository.list_sessions() if summary.session_id == session_id]
    return found.metadata


@pytest.fixture
def repository() -> Iterator[SQLiteSessionRepository]:
    with SQLiteSessionRepository(":memory:") as repository:
        yield repository


# -- given, merged, changed --


def test_a_manager_merges_its_metadata_into_that_of_the_session(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    for given, expected in [
        (None, {}),
        ({}, {}),
        ({"user_id": "42", "title": "first"}, {"user_id": "42", "title": "first"}),
        (None, {"user_id": "42", "title": "first"}),
        (MappingProxyType({"title": "second", "ü": ""}), {"user_id": "42", "title": "second", "ü": ""}),
    ]:
        with SQLiteSessionManager(SESSION, path, metadata=given) as manager:
            assert known(manager) == expected
    with SQLiteSessionRepository(path) as repository:
        assert known(repository) == {"user_id": "42", "title": "second", "ü": ""}


def test_metadata_leaves_the_conversation_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager(SESSION, path) as manager:
        agent = build(manager)
        agent("hello")
        before = query(path, "SELECT * FROM agents"), query(path, "SELECT * FROM messages")
        manager.update_session_metadata(SESSION, {"user_id": "42"})
        assert (query(path, "SELECT * FROM agents"), query(path, "SELECT * FROM messages")) == before
        agent("and on")  # it is not stale
        assert len(manager.list_messages(SESSION, "default")) == 4


def test_an_update_changes_what_it_names_and_none_removes(repository: SQLiteSessionRepository) -> None:
    add_session(repository, SESSION)
    add_session(repository, "other")
    for changes, expected in [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}),
        ({"b": "3", "c": "4"}, {"a": "1", "b": "3", "c": "4"}),
        ({}, {"a": "1", "b": "3", "c": "4"}),
        ({"a": None, "never": None}, {"b": "3", "c": "4"}),
        ({"b": ""}, {"b": "", "c": "4"}),
        ({"b": None, "c": None, "d": "5"}, {"d": "5"}),
        ({"d": None}, {}),
    ]:
        repository.update_session_metadata(SESSION, changes)  # type: ignore[arg-type]
        assert known(repository) == expected
        assert known(repository, "other") == {}


def test_a_removed_or_changed_value_no_longer_finds_the_session(repository: SQLiteSessionRepository) -> None:
    add_session(repository, SESSION)
    repository.update_session_metadata(SESSION, {"user_id": "42", "app": "x"})
    assert listed(repository, metadata={"user_id": "42", "app": "x"}) == [SESSION]
    repository.update_session_metadata(SESSION, {"user_id": "43", "app": None})
    assert listed(repository, metadata={"user_id": "42"}) == listed(repository, metadata={"app": "x"}) == []
    assert listed(repository, metadata={"user_id": "43"}) == [SESSION]


def test_metadata_is_plain_rows_to_anyone(tmp_path: Path) -> None:
    metadata = {"user_id": "42", "größe": 'a "quoted" \\ value\n'}
    with SQLiteSessionManager(SESSION, tmp_path / "sessions.db", metadata=metadata):
        pass
    rows = query(tmp_path / "sessions.db", "SELECT key, value FROM session_metadata WHERE session_id = ?", SESSION)
    assert dict(rows) == metadata


def test_changing_the_dict_later_changes_nothing(repository: SQLiteSessionRepository) -> None:
    add_session(repository, SESSION)
    metadata = {"a": "1"}
    repository.update_session_metadata(SESSION, metadata)
    metadata["a"] = "2"
    known(repository)["a"] = "3"
    assert known(repository) == {"a": "1"}


def test_updates_by_many_threads_are_all_kept(tmp_path: Path) -> None:
    with SQLiteSessionManager(SESSION, tmp_path / "sessions.db") as manager:

        def update(index: int) -> None:
            for number in range(20):
                manager.update_session_metadata(SESSION, {f"{index}.{number}": "x"})

        in_threads(4, update)
        assert known(manager).keys() == {f"{index}.{number}" for index in range(4) for number in range(20)}


def merge(index: int, path: Path) -> None:
    for number in range(10):
        SQLiteSessionManager(SESSION, path, metadata={f"{index}.{number}": "x"}).close()


def test_updates_by_two_processes_are_all_kept(path: Path) -> None:
    in_processes(2, merge, path)
    with SQLiteSessionRepository(path) as repository:
        assert known(repository).keys() == {f"{index}.{number}" for index in range(2) for number in range(10)}


# -- found by --

KEYS = [
    *("", "user_id", 'x"user_id', "a.b", "a", "b", "$", "$.a", "[0]", "\\", "a\\", 'a\\"', '"', "'", '""', '":"'),
    *("é", 'x"é', "中", "😀", "e\u0301", "%", "a%", "_", "?", " ", "\n", "\0", "\x7f", "\uffff", ",", ":", "{}", "-a"),
    *("null", "0", "x" * 300, 'k":"v', "--", "; DROP TABLE sessions", "sqlite_", "metadata", "active_at"),
]
VALUES = ["", "v", "V", "42", "null", '"', '":"', '","', "\\", "\n", "\0", "é", "\uffff", "%", "'", " v", "😀" * 50]


def found_by_brute_force(stored: Mapping[str, Mapping[str, str]], wanted: Mapping[str, str]) -> set[str]:
    return {name for name, metadata in stored.items() if wanted.items() <= metadata.items()}


@pytest.mark.parametrize("step", tier([1, 5], quick=[5]))
def test_any_key_with_any_value_finds_just_the_sessions_that_have_it(
    repository: SQLiteSessionRepository, step: int
) -> None:
    pairs = list(itertools.product(KEYS, VALUES))[::step]
    stored: dict[str, dict[str, str]] = {}
    for number, (key, value) in enumerate(pairs):
        other = KEYS[(number * 7) % len(KEYS)]
        stored[str(number)] = {other: VALUES[(number * 5) % len(VALUES)], key: value}
    for name, metadata in stored.items():
        add_session(repository, name, agent_ids=[])
        repository.update_session_metadata(name, metadata)
    wrong = {
        (key, value)
        for key, value in pairs
        if set(listed(repository, metadata={key: value})) != found_by_brute_force(stored, {key: value})
    }
    assert wrong == set()
    for name in list(stored)[::20]:
        assert set(listed(repository, metadata=stored[name])) == found_by_brute_force(stored, stored[name])


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ({'my"é': "v"}, {"é": "v"}),
        ({'"': "v"}, {"": "v"}),
        ({'my"user_id': "a\nb"}, {"user_id": "a\nb"}),
        ({"a": "x,", ":": "v"}, {",": ":"}),
        ({"user_id": "42\0x"}, {"user_id": "42"}),
    ],
)
def test_a_part_of_a_key_or_value_neither_finds_nor_deletes_a_session(
    repository: SQLiteSessionRepository, stored: dict[str, str], wanted: dict[str, str]
) -> None:
    add_session(repository, SESSION)
    repository.update_session_metadata(SESSION, stored)
    assert listed(repository, metadata=wanted) == []
    assert repository.delete_sessions(metadata=wanted) == 0
    assert known(repository) == stored


def test_all_of_several_keys_must_match_however_many_and_in_any_order(repository: SQLiteSessionRepository) -> None:
    stored = {}
    for number in range(64):
        bits = {f"bit.{place}": str(number >> place & 1) for place in range(6)}
        stored[str(number)] = {**bits, "größe": bits["bit.0"], "all": "yes"}
        add_session(repository, str(number), agent_ids=[])
        repository.update_session_metadata(str(number), stored[str(number)])
    for wanted in (
        {"bit.0": "1", "bit.5": "0"},
        {"bit.5": "0", "bit.0": "1"},
        {"all": "yes", "bit.3": "1"},
        {"größe": "1", "bit.2": "0", "bit.1": "1"},
        {"bit.0": "1", "größe": "0"},
        {"all": "yes", "missing": "1"},
        stored["37"],
    ):
        assert set(listed(repository, metadata=wanted)) == found_by_brute_force(stored, wanted)


def test_keys_that_differ_only_in_case_are_different_keys(repository: SQLiteSessionRepository) -> None:
    for key in ("user", "User", "USER"):
        add_session(repository, key)
        repository.update_session_metadata(key, {key: "1"})
    assert [listed(repository, metadata={key: "1"}) for key in ("user", "User", "USER", "uSER")] == [
        ["user"],
        ["User"],
        ["USER"],
        [],
    ]


@pytest.mark.long
def test_a_session_is_found_by_any_of_many_keys_and_by_all(repository: SQLiteSessionRepository) -> None:
    count = 1200
    metadata = {f"key{number}": str(number) for number in range(count)}
    for session_id in ("a", "b"):
        add_session(repository, session_id)
    repository.update_session_metadata("a", metadata)
    assert all(listed(repository, metadata={key: metadata[key]}) == ["a"] for key in list(metadata)[::20])
    assert listed(repository, metadata={f"key{count - 1}": "0"}) == []
    assert listed(repository, metadata=metadata) == ["a"]
    assert listed(repository, metadata={**metadata, "another": "1"}) == []
    assert repository.search_messages("hello", metadata=metadata) == []


def test_new_keys_do_not_change_the_schema_of_the_file(path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, SESSION)
        before = query(path, "PRAGMA schema_version")
        for number in range(40):
            repository.update_session_metadata(SESSION, {f"key{number}": "x"})
            assert listed(repository, metadata={f"key{number}": "x"}) == [SESSION]
        assert query(path, "PRAGMA schema_version") == before


def test_the_fortieth_key_finds_its_session_without_scanning_the_others(tmp_path: Path) -> None:
    steps = 0

    def connect(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.set_progress_handler(count, 10)  # after every ten instructions of SQLite's virtual machine
        return connection

    def count() -> None:
        nonlocal steps
        steps += 1

    effort: dict[int, int] = {}
    for sessions in (50, 500):
        with SQLiteSessionRepository(tmp_path / f"{sessions}.db", synchronous="NORMAL", connect=connect) as repository:
            for number in range(sessions):
                add_session(repository, str(number), number, agent_ids=[])
                repository.update_session_metadata(str(number), {"app": "x", f"key{number % 40}": "x"})
            repository.update_session_metadata("7", {"user_id": "42"})
            steps = 0
            assert listed(repository, metadata={"user_id": "42"}) == ["7"]
            effort[sessions] = steps
    assert effort[500] < 3 * effort[50]


class Name(str, enum.Enum):
    """Strings as many programs write them."""

    KEY = "user_id"
    VALUE = "42"


def test_instances_of_a_subclass_of_str_count_as_plain_strings(tmp_path: Path) -> None:
    with SQLiteSessionManager(SESSION, tmp_path / "sessions.db", metadata={Name.KEY: Name.VALUE}) as manager:
        assert known(manager) == {"user_id": "42"}
        for wanted in ({Name.KEY: Name.VALUE}, {"user_id": "42"}, {"user_id": Name.VALUE}, {Name.KEY: "42"}):
            assert listed(manager, metadata=wanted) == [SESSION]


# -- refused --

NOT_STRINGS: list[Any] = [
    {"a": 1},
    {"a": True},
    {"a": b"x"},
    {"a": ["x"]},
    {"a": {"b": "c"}},
    {1: "a"},
    {None: "a"},
    {("a",): "b"},
    {"fine": "x", "a": 1.5},
    "a=b",
    ["a"],
    [("a", "b")],
    7,
]


@pytest.mark.parametrize("metadata", NOT_STRINGS, ids=repr)
def test_anything_but_strings_is_a_type_error_and_changes_nothing(tmp_path: Path, metadata: Any) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager(SESSION, path, metadata={"a": "kept"}) as manager:
        before = dump(path)
        for call in (
            lambda: manager.update_session_metadata(SESSION, metadata),
            lambda: SQLiteSessionManager(SESSION, path, metadata=metadata),
            lambda: SQLiteSessionManager("new", path, metadata=metadata),
            lambda: manager.list_sessions(metadata=metadata),
            lambda: manager.delete_sessions(metadata=metadata),
        ):
            with pytest.raises(TypeError, match="metadata"):
                call()
        assert dump(path) == before


@pytest.mark.parametrize("metadata", [{"a": "\ud800"}, {"\udcff": "b"}, {"fine": "x", "a": "b\udfff"}], ids=ascii)
def test_a_lone_surrogate_is_refused_with_its_key_and_changes_nothing(path: Path, metadata: dict[str, str]) -> None:
    with SQLiteSessionManager(SESSION, path, metadata={"a": "kept"}) as manager:
        before = dump(path)
        for call in (
            lambda: manager.update_session_metadata(SESSION, metadata),
            lambda: SQLiteSessionManager("new", path, metadata=metadata),
            lambda: manager.list_sessions(metadata=metadata),
            lambda: manager.search_messages("x", metadata=metadata),
            lambda: manager.delete_sessions(metadata=metadata),
        ):
            with pytest.raises(ValueError, match=r"metadata\['(a|\\udcff)'\] \| cannot contain lone surrogates"):
                call()
        assert dump(path) == before


def test_none_is_for_updates_only(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'a'"):
        SQLiteSessionManager(SESSION, tmp_path / "sessions.db", metadata={"a": None})  # type: ignore[dict-item]
    with SQLiteSessionManager(SESSION, tmp_path / "sessions.db") as manager, pytest.raises(TypeError):
        manager.update_session_metadata(SESSION, None)  # type: ignore[arg-type]


def test_a_session_that_does_not_exist_has_no_metadata(repository: SQLiteSessionRepository) -> None:
    for metadata in ({"a": "1"}, {"a": None}, {}):
        with pytest.raises(SessionNotFoundException, match="Session nobody does not exist"):
            repository.update_session_metadata("nobody", metadata)  # type: ignore[arg-type]
    assert repository.list_sessions() == []


@pytest.mark.parametrize(("session_id", "error"), [("", ValueError), ("a/b", ValueError), (" ", ValueError)])
def test_an_invalid_id_is_refused(repository: SQLiteSessionRepository, session_id: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="session_id"):
        repository.update_session_metadata(session_id, {"a": "1"})


def test_a_session_that_was_deleted_is_not_brought_back_by_its_metadata(tmp_path: Path) -> None:
    with SQLiteSessionManager(SESSION, tmp_path / "sessions.db", metadata={"a": "1"}) as manager:
        manager.delete_session(SESSION)
        with pytest.raises(SessionNotFoundException, match="does not exist"):
            manager.update_session_metadata(SESSION, {"a": "2"})
        with SQLiteSessionManager(SESSION, tmp_path / "sessions.db") as again:
            assert known(again) == {}
