"""Ours refuses calls on which Strands' file and S3 managers silently lose or change data.

Every refusal leaves the file exactly as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SessionExistsException, SessionNotFoundException, SQLiteSessionManager

from ..support.records import (
    MESSAGE_ID_CALLS,
    Call,
    Orchestrator,
    agent,
    dump,
    every_call_with_an_id,
    message,
    session,
)
from ..support.scripted_model import ScriptedModel


@pytest.fixture
def repository(path: Path) -> Iterator[SQLiteSessionManager]:
    """A manager whose session `home` has an agent `ada` and an orchestrator `graph`."""
    with SQLiteSessionManager("home", path) as manager:
        manager.create_agent("home", agent("ada", state={"mood": "calm"}))
        manager.create_message("home", "ada", message(0, "first"))
        manager.create_multi_agent("home", Orchestrator("graph", {"step": 1}))
        yield manager


@contextmanager
def refused(path: Path, wording: str, kind: type[Exception] = SessionException) -> Iterator[None]:
    """The block raises an error that starts with this wording, and leaves the file as it was."""
    before = dump(path)
    with pytest.raises(kind) as refusal:
        yield
    assert type(refusal.value) is kind
    assert str(refusal.value).startswith(wording)
    assert dump(path) == before


# -- what is there already is not overwritten --


def test_an_agent_is_not_created_twice(repository: SQLiteSessionManager, path: Path) -> None:
    with refused(path, "Agent ada already exists in session home", SessionExistsException):
        repository.create_agent("home", agent("ada", state={"mood": "lost"}))


def test_a_message_is_not_created_twice(repository: SQLiteSessionManager, path: Path) -> None:
    with refused(path, "Message 0 already exists for agent ada in session home", SessionExistsException):
        repository.create_message("home", "ada", message(0, "second"))


def test_the_agent_of_one_manager_is_not_created_again_by_another(repository: SQLiteSessionManager, path: Path) -> None:
    with (
        SQLiteSessionManager("home", path) as other,
        refused(path, "Agent ada already exists in session home", SessionExistsException),
    ):
        other.create_agent("home", agent("ada"))


# -- nothing is stored where its parent is missing --


def test_an_agent_needs_its_session(repository: SQLiteSessionManager, path: Path) -> None:
    with refused(path, "Session nowhere does not exist", SessionNotFoundException):
        repository.create_agent("nowhere", agent("ada"))


@pytest.mark.parametrize(("session_id", "agent_id"), [("home", "nobody"), ("nowhere", "ada")])
def test_a_message_needs_its_agent(
    repository: SQLiteSessionManager, path: Path, session_id: str, agent_id: str
) -> None:
    with refused(path, f"Agent {agent_id} in session {session_id} does not exist", SessionNotFoundException):
        repository.create_message(session_id, agent_id, message(1))


def test_an_orchestrator_needs_its_session(repository: SQLiteSessionManager, path: Path) -> None:
    with refused(path, "Session nowhere does not exist", SessionNotFoundException):
        repository.create_multi_agent("nowhere", Orchestrator("graph"))


@pytest.mark.parametrize(("session_id", "id_"), [("home", "swarm"), ("nowhere", "graph")])
def test_an_orchestrator_that_was_never_created_is_not_created_by_an_update(
    repository: SQLiteSessionManager, path: Path, session_id: str, id_: str
) -> None:
    with refused(path, f"MultiAgent state {id_} in session {session_id} does not exist", SessionNotFoundException):
        repository.update_multi_agent(session_id, Orchestrator(id_))


def test_a_manager_does_not_bring_its_deleted_session_back(repository: SQLiteSessionManager, path: Path) -> None:
    repository.delete_session("home")
    with refused(path, "Session home does not exist", SessionNotFoundException):
        repository.create_agent("home", agent("ada"))
    with refused(path, "Session home does not exist", SessionNotFoundException):
        Agent(model=ScriptedModel(), session_manager=repository, agent_id="bob", callback_handler=None)


def test_a_live_agent_does_not_bring_its_deleted_session_back(repository: SQLiteSessionManager, path: Path) -> None:
    live = Agent(model=ScriptedModel(), session_manager=repository, agent_id="bob", callback_handler=None)
    live("hello")
    repository.delete_session("home")
    with refused(path, "Agent bob in session home does not exist", SessionNotFoundException):
        live("are you there?")
    assert repository.read_session("home") is None


@pytest.mark.parametrize(("session_id", "agent_id"), [("home", "nobody"), ("nowhere", "ada")])
def test_an_unknown_agent_has_no_messages(repository: SQLiteSessionManager, session_id: str, agent_id: str) -> None:
    assert repository.list_messages(session_id, agent_id) == []


# -- ids that only some stores could hold --


@every_call_with_an_id
def test_every_call_refuses_an_empty_or_blank_id(
    repository: SQLiteSessionManager, path: Path, kind: str, call: Call
) -> None:
    for id_ in ("", " ", "\t\n", "\u3000"):
        with refused(path, f"{kind}_id={id_} | id cannot be empty or blank", ValueError):
            call(repository, id_)


@every_call_with_an_id
def test_every_call_refuses_an_id_that_is_not_valid_unicode(
    repository: SQLiteSessionManager, path: Path, kind: str, call: Call
) -> None:
    with refused(path, rf"{kind}_id='a\ud800' | id cannot contain lone surrogates", ValueError):
        call(repository, "a\ud800")


@every_call_with_an_id
def test_every_call_refuses_an_id_that_is_not_text(
    repository: SQLiteSessionManager, path: Path, kind: str, call: Call
) -> None:
    for id_ in (None, 7, b"home", ["home"]):
        with refused(path, "", TypeError):
            call(repository, id_)


@pytest.mark.parametrize("call", MESSAGE_ID_CALLS.values(), ids=MESSAGE_ID_CALLS)
def test_every_call_refuses_a_message_id_that_sqlite_cannot_hold_or_that_none_could_follow(
    repository: SQLiteSessionManager, path: Path, call: Call
) -> None:
    for id_ in (2**63 - 1, 2**63, 2**70, -(2**63) - 1):
        with refused(path, f"message_id=<{id_}> | message id must lie between -2**63 and 2**63 - 2", ValueError):
            call(repository, id_)


def test_message_ids_reach_almost_to_the_ends_of_64_bits(repository: SQLiteSessionManager) -> None:
    for id_ in (2**63 - 2, -(2**63)):
        repository.create_message("home", "ada", message(id_, f"text {id_}"))
        assert repository.read_message("home", "ada", id_).message == message(id_, f"text {id_}").message
    listed = repository.list_messages("home", "ada")
    assert [found.message_id for found in listed] == [-(2**63), 0, 2**63 - 2]


# -- numbers that upstream reads from the end of the list --


@pytest.mark.parametrize("page", [{"limit": -1}, {"offset": -1}, {"limit": 2, "offset": -1}], ids=str)
def test_a_negative_limit_or_offset_is_refused(
    repository: SQLiteSessionManager, path: Path, page: dict[str, int]
) -> None:
    with refused(path, f"limit=<{page.get('limit')}>, offset=<{page.get('offset', 0)}> | ", ValueError):
        repository.list_messages("home", "ada", **page)


# -- values that JSON changes silently; test_refused_values.py has the rest --


@pytest.mark.parametrize(
    ("value", "wording"),
    [
        ((1, 2), "message['content'][0]['x'] cannot be stored as JSON: JSON turns a tuple into a list"),
        ({1: "one"}, "message['content'][0]['x'] cannot be stored as JSON: JSON turns a key of type int into a string"),
    ],
)
def test_a_value_that_would_come_back_changed_is_refused(
    repository: SQLiteSessionManager, path: Path, value: Any, wording: str
) -> None:
    changed = SessionMessage({"role": "user", "content": [{"x": value}]}, 1)
    with refused(path, wording):
        repository.create_message("home", "ada", changed)
    changed.message_id = 0
    with refused(path, wording):
        repository.update_message("home", "ada", changed)


def test_a_session_of_a_type_that_strands_does_not_know_is_refused(
    repository: SQLiteSessionManager, path: Path
) -> None:
    strange = session("strange")
    strange.session_type = "SOMETHING ELSE"
    with refused(path, "'SOMETHING ELSE' is not a valid SessionType", ValueError):
        repository.create_session(strange)
