"""Ids of sessions, agents, and orchestrators.

Every value is refused as upstream refuses it, or works wherever an id is used and leads to nothing else.
"""

import os
from typing import Any

import pytest
from hypothesis import strategies as st

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.conversations import build
from ..support.records import AGENT_ID_CALLS, SESSION_ID_CALLS, Orchestrator, agent, message, session
from .target import Target

NASTY = (
    *("'", '"', "';--", "' OR 1=1 --", '"; DROP TABLE messages; --', "%", "_", "*", "?", ":a", "@a", "$1", "NULL"),
    *("/", "\\", "..", ".", "a/b", "\0", "a\0b", "\ud800", "\udc80", "\U0010ffff", "\ufeff", "\u202e", "é", "e\u0301"),
    *("", " ", "\t", "\u3000", "home", "HOME", "home ", "home\0", "ada", "default", "[]", "{}", "-1", "0"),
)
texts = st.text(st.characters(), max_size=30) | st.sampled_from(NASTY)
ids = (
    texts
    | st.lists(texts, max_size=4).map("".join)
    | st.tuples(texts, st.sampled_from([100, 10_000])).map(lambda drawn: (drawn[0] * drawn[1])[: drawn[1]])
    | st.none()
    | st.integers()
    | st.binary(max_size=5)
    | st.lists(texts, max_size=2)
)


def check(id_: Any) -> None:
    """Use an id in every call."""
    with SQLiteSessionRepository(":memory:") as repository:
        repository.create_session(session("home"))
        repository.create_agent("home", agent("ada"))
        repository.create_message("home", "ada", message(0))
        before = repository.list_messages("home", "ada"), repository.list_agents("home")
        if is_id(id_):
            _use(repository, id_)
        else:
            _is_refused(repository, id_)
        if id_ not in ("home", "ada"):
            assert (repository.list_messages("home", "ada"), repository.list_agents("home")) == before
            assert [summary.session_id for summary in repository.list_sessions()] == ["home"]


def is_id(value: Any) -> bool:
    """Return whether every store can hold a value."""
    if not isinstance(value, str) or not value.strip() or os.path.basename(value) != value:
        return False
    return value.encode(errors="ignore").decode() == value


def _is_refused(repository: SQLiteSessionRepository, id_: Any) -> None:
    expected = ValueError if isinstance(id_, str) else TypeError
    for call in (*SESSION_ID_CALLS.values(), *AGENT_ID_CALLS.values()):
        with pytest.raises(expected):
            call(repository, id_)
    for other in (
        lambda: repository.list_agents(id_),
        lambda: repository.list_multi_agents(id_),
        lambda: repository.fork_session(id_, "new"),
        lambda: repository.fork_session("home", id_),
        lambda: repository.update_session_metadata(id_, {}),
    ):
        with pytest.raises(expected):
            other()
    with pytest.raises(expected):
        SQLiteSessionManager(id_, ":memory:")
    if id_ is not None:
        with pytest.raises(expected):
            repository.search_messages("hello", session_id=id_)
        with pytest.raises(expected):
            repository.search_messages("hello", agent_id=id_)


def _use(repository: SQLiteSessionRepository, id_: str) -> None:
    if id_ not in ("home", "ada"):
        assert repository.read_session(id_) is None
        assert repository.read_agent("home", id_) is None
        repository.create_session(session(id_))
        repository.create_agent(id_, agent(id_))
        repository.create_message(id_, id_, message(0, f"said in {id_}"))
        repository.create_multi_agent(id_, Orchestrator(id_, {"id": id_}))
        repository.update_session_metadata(id_, {id_: id_})
        assert repository.list_messages(id_, id_)[0].message["content"] == [{"text": f"said in {id_}"}]
        assert repository.list_messages("home", id_) == []
        assert repository.read_multi_agent(id_, id_) == {"id": id_}
        assert [known.agent_id for known in repository.list_agents(id_)] == [id_]
        assert repository.list_multi_agents(id_) == [id_]
        (summary,) = repository.list_sessions(metadata={id_: id_})
        assert (summary.session_id, summary.agent_ids, summary.metadata) == (id_, [id_], {id_: id_})
        (match,) = repository.search_messages("said", session_id=id_, agent_id=id_)
        assert (match.session_id, match.agent_id) == (id_, id_)
        repository.fork_session(id_, "fork", agent_id=id_, through_message=0)
        repository.delete_session(id_)
        assert repository.list_messages(id_, id_) == []
        repository.fork_session("fork", id_)
        repository.delete_session("fork")
        assert repository.read_multi_agent(id_, id_) == {"id": id_}
        assert repository.delete_sessions(metadata={id_: id_}) == 1
    with SQLiteSessionManager(id_, ":memory:", metadata={id_: id_}) as manager:
        build(manager, agent_id=id_)("hello")
        assert len(manager.list_messages(id_, id_)) == 2
        assert manager.check() == []


TARGET = Target(ids, check, examples=20)
