"""What our manager does exactly like Strands' file and S3 managers, call by call.

`test_stricter_than_upstream.py` tests the calls on which ours is stricter.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.encrypted_connections import connect_encrypted
from ..support.records import (
    MESSAGE_ID_CALLS,
    Call,
    Orchestrator,
    agent,
    every_call_with_an_id,
    message,
    session,
)
from ..support.tiers import tier

ODD_IDS = [
    "Zoë 日本語 🦜",
    " spaces around ",
    "tab\tand\nnewline",
    "100%",
    "%2F%41%",
    "it's",
    'say "hi"',
    "'; DROP TABLE sessions; --",
    "_",
    "a*b?[c]",
    "..",
    "NULL",
    "0",
    "x" * 200,
]


@pytest.fixture(params=tier(["file", "s3", "sqlite", "encrypted"], quick=["file", "sqlite"]))
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Builds a manager of the session `home`; each call builds another one on the same storage."""
    if request.param == "file":
        return lambda: FileSessionManager("home", storage_dir=str(tmp_path))
    if request.param == "s3":
        bucket, boto_session = (request.getfixturevalue(name) for name in ("s3_bucket", "boto_session"))
        return lambda: S3SessionManager("home", bucket, prefix=tmp_path.name, boto_session=boto_session)
    connect = connect_encrypted if request.param == "encrypted" else None
    return lambda: SQLiteSessionManager("home", tmp_path / "sessions.db", connect=connect)


@pytest.fixture
def repository(reopen: Callable[[], Any]) -> Any:
    """A manager whose session `home` has an agent `ada`."""
    manager = reopen()
    manager.create_agent("home", agent("ada"))
    return manager


# -- sessions --


def test_building_a_manager_creates_its_session_and_building_another_joins_it(reopen: Callable[[], Any]) -> None:
    created = reopen().read_session("home")
    assert created.session_id == "home"
    assert created.session_type == "AGENT"
    assert reopen().read_session("home") == created


def test_a_session_is_returned_by_create_and_equal_when_read(repository: Any, reopen: Callable[[], Any]) -> None:
    new = session("new")
    assert repository.create_session(new) is new
    assert reopen().read_session("new") == new


def test_a_session_is_not_created_twice(repository: Any) -> None:
    with pytest.raises(SessionException, match=r"^Session home already exists$"):
        repository.create_session(session("home"))


def test_a_session_that_was_never_created_reads_as_none(repository: Any) -> None:
    assert repository.read_session("nowhere") is None


def test_a_session_that_was_never_created_cannot_be_deleted(repository: Any) -> None:
    with pytest.raises(SessionException, match=r"^Session nowhere does not exist$"):
        repository.delete_session("nowhere")


def test_deleting_a_session_removes_everything_in_it_and_nothing_else(
    repository: Any, reopen: Callable[[], Any]
) -> None:
    repository.create_session(session("other"))
    repository.create_agent("other", agent("ada"))
    for session_id in ("home", "other"):
        repository.create_message(session_id, "ada", message(0, session_id))
        repository.create_multi_agent(session_id, Orchestrator("graph", {"of": session_id}))

    repository.delete_session("other")

    for reader in (repository, reopen()):
        assert reader.read_session("other") is None
        assert reader.read_agent("other", "ada") is None
        assert reader.read_message("other", "ada", 0) is None
        assert reader.read_multi_agent("other", "graph") is None
        assert reader.read_agent("home", "ada").agent_id == "ada"
        assert [found.message["content"] for found in reader.list_messages("home", "ada")] == [[{"text": "home"}]]
        assert reader.read_multi_agent("home", "graph") == {"of": "home"}


def test_a_deleted_session_can_be_created_again_and_starts_empty(repository: Any) -> None:
    repository.create_message("home", "ada", message(0, "before"))
    repository.create_multi_agent("home", Orchestrator("graph"))
    repository.delete_session("home")

    again = repository.create_session(session("home"))
    repository.create_agent("home", agent("ada", state={"new": True}))

    assert repository.read_session("home") == again
    assert repository.read_agent("home", "ada").state == {"new": True}
    assert repository.list_messages("home", "ada") == []
    assert repository.read_multi_agent("home", "graph") is None


# -- agents --


def test_an_agent_is_equal_when_read(repository: Any, reopen: Callable[[], Any]) -> None:
    bob = agent(
        "bob",
        state={"likes": ["tea", {"sugar": 0}]},
        conversation_manager_state={"removed_message_count": 3},
        _internal_state={"interrupt_state": {"activated": False}},
        created_at="2026-01-31T09:30:00+00:00",
        updated_at="2026-01-31T09:31:00+00:00",
    )
    repository.create_agent("home", bob)
    assert repository.read_agent("home", "bob") == bob
    assert reopen().read_agent("home", "bob") == bob


@pytest.mark.parametrize("session_id", ["home", "nowhere"])
def test_an_agent_that_was_never_created_reads_as_none(repository: Any, session_id: str) -> None:
    assert repository.read_agent(session_id, "nobody") is None


def test_updating_an_agent_replaces_all_but_its_creation_time_and_writes_that_back(
    repository: Any, reopen: Callable[[], Any]
) -> None:
    created_at = repository.read_agent("home", "ada").created_at
    update = agent(
        "ada",
        state={"n": 1},
        conversation_manager_state={"removed_message_count": 2},
        _internal_state={"model_state": {}},
        created_at="2001-01-01T00:00:00+00:00",
        updated_at="2031-01-01T00:00:00+00:00",
    )
    repository.update_agent("home", update)

    assert update.created_at == created_at
    assert update.updated_at == "2031-01-01T00:00:00+00:00"
    assert repository.read_agent("home", "ada") == update
    assert reopen().read_agent("home", "ada") == update


def test_updating_an_agent_leaves_its_messages_alone(repository: Any) -> None:
    repository.create_message("home", "ada", message(0))
    before = repository.list_messages("home", "ada")
    repository.update_agent("home", agent("ada", state={"n": 1}))
    assert repository.list_messages("home", "ada") == before


@pytest.mark.parametrize("session_id", ["home", "nowhere"])
def test_an_agent_that_was_never_created_cannot_be_updated(repository: Any, session_id: str) -> None:
    with pytest.raises(SessionException, match=f"^Agent nobody in session {session_id} does not exist$"):
        repository.update_agent(session_id, agent("nobody"))


# -- messages --


def test_a_message_is_equal_when_read(repository: Any, reopen: Callable[[], Any]) -> None:
    picture = message(0)
    picture.message["content"].append({"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00\xff"}}})
    picture.created_at = "2026-01-31T09:30:00+00:00"
    picture.updated_at = "2026-01-31T09:31:00+00:00"
    repository.create_message("home", "ada", picture)

    for reader in (repository, reopen()):
        assert reader.read_message("home", "ada", 0) == picture
        assert reader.list_messages("home", "ada") == [picture]


@pytest.mark.parametrize(
    ("session_id", "agent_id", "message_id"), [("home", "ada", 1), ("home", "nobody", 0), ("nowhere", "ada", 0)]
)
def test_a_message_that_was_never_created_reads_as_none(
    repository: Any, session_id: str, agent_id: str, message_id: int
) -> None:
    repository.create_message("home", "ada", message(0))
    assert repository.read_message(session_id, agent_id, message_id) is None


def test_updating_a_message_replaces_all_but_its_creation_time_and_writes_that_back(
    repository: Any, reopen: Callable[[], Any]
) -> None:
    repository.create_message("home", "ada", message(0, "before"))
    created_at = repository.read_message("home", "ada", 0).created_at
    update = message(0, "after")
    update.created_at = "2001-01-01T00:00:00+00:00"
    update.updated_at = "2031-01-01T00:00:00+00:00"
    repository.update_message("home", "ada", update)

    assert update.created_at == created_at
    assert update.updated_at == "2031-01-01T00:00:00+00:00"
    assert repository.read_message("home", "ada", 0) == update
    assert reopen().list_messages("home", "ada") == [update]


@pytest.mark.parametrize(("session_id", "agent_id"), [("home", "ada"), ("home", "nobody"), ("nowhere", "ada")])
def test_a_message_that_was_never_created_cannot_be_updated(repository: Any, session_id: str, agent_id: str) -> None:
    with pytest.raises(SessionException, match=r"^Message 7 does not exist$"):
        repository.update_message(session_id, agent_id, message(7))


def test_a_redacted_message_keeps_both_texts_and_shows_the_replacement(
    repository: Any, reopen: Callable[[], Any]
) -> None:
    repository.create_message("home", "ada", message(0, "my card is 4111"))
    redacted = repository.read_message("home", "ada", 0)
    assert redacted.to_message() == {"role": "user", "content": [{"text": "my card is 4111"}]}

    redacted.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
    repository.update_message("home", "ada", redacted)

    for read in (repository.read_message("home", "ada", 0), *reopen().list_messages("home", "ada")):
        assert read == redacted
        assert read.message == {"role": "user", "content": [{"text": "my card is 4111"}]}
        assert read.to_message() == {"role": "user", "content": [{"text": "[redacted]"}]}


def test_a_message_can_be_created_redacted(repository: Any) -> None:
    redacted = message(0, "secret")
    redacted.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
    repository.create_message("home", "ada", redacted)
    assert repository.read_message("home", "ada", 0) == redacted


def test_an_agent_without_messages_lists_none(repository: Any) -> None:
    assert repository.list_messages("home", "ada") == []


@pytest.mark.parametrize(
    ("page", "ids"),
    [
        ({}, [0, 2, 9, 10, 100]),
        ({"limit": None, "offset": 0}, [0, 2, 9, 10, 100]),
        ({"limit": 2}, [0, 2]),
        ({"limit": 2, "offset": 1}, [2, 9]),
        ({"limit": 2, "offset": 4}, [100]),
        ({"limit": 99}, [0, 2, 9, 10, 100]),
        ({"limit": 10**20}, [0, 2, 9, 10, 100]),
        ({"limit": 0}, []),
        ({"limit": 0, "offset": 2}, []),
        ({"offset": 3}, [10, 100]),
        ({"offset": 5}, []),
        ({"offset": 10**20}, []),
        ({"limit": 3, "offset": 99}, []),
    ],
    ids=str,
)
def test_messages_are_listed_by_number_whatever_order_they_came_in(
    repository: Any, page: dict[str, int | None], ids: list[int]
) -> None:
    for message_id in (10, 0, 100, 9, 2):
        repository.create_message("home", "ada", message(message_id, f"text {message_id}"))
    listed = repository.list_messages("home", "ada", **page)
    assert [found.message_id for found in listed] == ids
    assert [found.to_message()["content"] for found in listed] == [[{"text": f"text {id_}"}] for id_ in ids]


@pytest.mark.parametrize("page", [{"limit": 1.5}, {"limit": "2"}, {"offset": 1.5}, {"offset": "2"}], ids=str)
def test_a_limit_or_offset_that_is_not_an_integer_is_a_type_error(repository: Any, page: dict[str, Any]) -> None:
    repository.create_message("home", "ada", message(0))
    with pytest.raises(TypeError):
        repository.list_messages("home", "ada", **page)


# -- orchestrators --


def test_the_state_of_an_orchestrator_is_equal_when_read(repository: Any, reopen: Callable[[], Any]) -> None:
    state = {"type": "graph", "next_nodes": ["b"], "results": {"a": {"text": "é"}}, "count": 2, "error": None}
    repository.create_multi_agent("home", Orchestrator("graph", state))
    assert repository.read_multi_agent("home", "graph") == state
    assert reopen().read_multi_agent("home", "graph") == state


def test_creating_an_orchestrator_again_replaces_its_state(repository: Any) -> None:
    repository.create_multi_agent("home", Orchestrator("graph", {"old": 1}))
    repository.create_multi_agent("home", Orchestrator("graph", {"new": 2}))
    assert repository.read_multi_agent("home", "graph") == {"new": 2}


@pytest.mark.parametrize("session_id", ["home", "nowhere"])
def test_an_orchestrator_that_was_never_created_reads_as_none(repository: Any, session_id: str) -> None:
    assert repository.read_multi_agent(session_id, "graph") is None


def test_updating_an_orchestrator_replaces_its_state(repository: Any, reopen: Callable[[], Any]) -> None:
    repository.create_multi_agent("home", Orchestrator("graph", {"old": 1}))
    repository.update_multi_agent("home", Orchestrator("graph", {"new": 2}))
    assert reopen().read_multi_agent("home", "graph") == {"new": 2}


@pytest.mark.parametrize("session_id", ["home", "nowhere"])
def test_an_orchestrator_that_was_never_created_cannot_be_updated(repository: Any, session_id: str) -> None:
    with pytest.raises(SessionException, match=f"^MultiAgent state graph in session {session_id} does not exist$"):
        repository.update_multi_agent(session_id, Orchestrator("graph"))


# -- all of them --


def test_every_call_accepts_upstreams_keywords_and_extra_ones(repository: Any) -> None:
    place = {"session_id": "new", "agent_id": "bob"}
    extra = {"something": "for the future"}

    repository.create_session(session=session("new"), **extra)
    repository.create_agent(session_id="new", session_agent=agent("bob"), **extra)
    repository.update_agent(session_id="new", session_agent=agent("bob", state={"n": 1}), **extra)
    repository.create_message(**place, session_message=message(0, "before"), **extra)
    repository.update_message(**place, session_message=message(0, "after"), **extra)
    repository.create_multi_agent(session_id="new", multi_agent=Orchestrator("graph"), **extra)
    repository.update_multi_agent(session_id="new", multi_agent=Orchestrator("graph", {"n": 2}), **extra)

    assert repository.read_session(session_id="new", **extra).session_id == "new"
    assert repository.read_agent(**place, **extra).state == {"n": 1}
    (listed,) = repository.list_messages(**place, limit=1, offset=0, **extra)
    assert listed.to_message()["content"] == [{"text": "after"}]
    assert repository.read_message(**place, message_id=0, **extra) == listed
    assert repository.read_multi_agent(session_id="new", multi_agent_id="graph", **extra) == {"n": 2}

    repository.delete_session(session_id="new", **extra)
    assert repository.read_session("new") is None


def test_sessions_and_agents_with_the_same_ids_inside_do_not_see_each_other(
    repository: Any, reopen: Callable[[], Any]
) -> None:
    places = [(session_id, agent_id) for session_id in ("one", "One", "two") for agent_id in ("ada", "bob")]
    for session_id in ("one", "One", "two"):
        repository.create_session(session(session_id))
        repository.create_multi_agent(session_id, Orchestrator("graph", {"of": session_id}))
    for session_id, agent_id in places:
        repository.create_agent(session_id, agent(agent_id))
        for message_id in range(2):
            repository.create_message(session_id, agent_id, message(message_id, "before"))
    for session_id, agent_id in places:
        repository.update_agent(session_id, agent(agent_id, state={"of": [session_id, agent_id]}))
        repository.update_message(session_id, agent_id, message(1, f"{session_id} {agent_id}"))

    reader = reopen()
    for session_id, agent_id in places:
        assert reader.read_agent(session_id, agent_id).state == {"of": [session_id, agent_id]}
        texts = [found.message["content"][0]["text"] for found in reader.list_messages(session_id, agent_id)]
        assert texts == ["before", f"{session_id} {agent_id}"]
        assert reader.read_multi_agent(session_id, "graph") == {"of": session_id}


@pytest.mark.parametrize("id_", ODD_IDS, ids=ascii)
def test_an_id_may_be_any_text_without_a_path_separator(repository: Any, reopen: Callable[[], Any], id_: str) -> None:
    repository.create_session(session(id_))
    repository.create_agent(id_, agent(id_))
    repository.create_message(id_, id_, message(0))
    repository.create_multi_agent(id_, Orchestrator(id_, {"n": 1}))

    reader = reopen()
    assert reader.read_session(id_).session_id == id_
    assert reader.read_agent(id_, id_).agent_id == id_
    assert [found.message_id for found in reader.list_messages(id_, id_)] == [0]
    assert reader.read_multi_agent(id_, id_) == {"n": 1}

    reader.delete_session(id_)
    assert repository.read_session(id_) is None
    assert repository.read_agent("home", "ada") is not None


@every_call_with_an_id
def test_every_call_refuses_an_id_with_a_path_separator(repository: Any, kind: str, call: Call) -> None:
    for id_ in ("a/b", "/", "../up", "below/"):
        with pytest.raises(ValueError, match=rf"^{kind}_id={re.escape(id_)} \| id cannot contain path separators$"):
            call(repository, id_)


@pytest.mark.parametrize("call", MESSAGE_ID_CALLS.values(), ids=MESSAGE_ID_CALLS)
def test_every_call_refuses_a_message_id_that_is_not_an_integer(repository: Any, call: Call) -> None:
    for id_ in ("1", 1.0, None):
        with pytest.raises(ValueError, match=rf"^message_id=<{id_}> \| message id must be an integer$"):
            call(repository, id_)
