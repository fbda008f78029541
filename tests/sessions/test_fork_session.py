"""A fork continues from the end of a session, or from any of its messages, and the original never notices."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import (
    SessionExistsException,
    SessionNotFoundException,
    SQLiteSessionManager,
    SQLiteSessionRepository,
)

from ..support.conversations import build
from ..support.dated_records import TABLES, add_message, add_session, at, said, stored_rows
from ..support.histories import HISTORIES
from ..support.histories.history import say
from ..support.orchestrators import KINDS, build_team, ran
from ..support.recording_manager import Recorder, held, written
from ..support.records import Orchestrator, query
from ..support.scripted_model import ScriptedModel, tool_use
from ..support.workers import PATIENCE


def resumed(path: Path, session_id: str, name: str) -> Agent:
    """Build the agent of a history on a session."""
    return HISTORIES[name].build(SQLiteSessionManager(session_id, path, synchronous="NORMAL"))


def live_through(name: str, path: Path) -> Recorder:
    """Live through a history in the session `original`."""
    if HISTORIES[name].missing:
        pytest.skip(HISTORIES[name].missing)
    manager = Recorder("original", path)
    HISTORIES[name].drive(HISTORIES[name].build(manager))
    return manager


@pytest.fixture
def repository(path: Path) -> Iterator[SQLiteSessionRepository]:
    with SQLiteSessionRepository(path, synchronous="NORMAL") as repository:
        yield repository


# -- through a message --

PLAIN = ["plain turns", "tools", "bytes in a prompt and in a tool result", "guardrail redaction", "parallel tools"]


@pytest.mark.parametrize("name", PLAIN)
def test_a_fork_through_a_message_holds_exactly_the_messages_up_to_it(name: str, path: Path) -> None:
    original = live_through(name, path)
    log = original.listed()
    for number in range(len(log)):
        original.fork_session("original", f"fork {number}", through_message=number)
        stored = [message.to_message() for message in original.list_messages(f"fork {number}", "default")]
        assert written(stored) == written(log[: number + 1])
        agent = resumed(path, f"fork {number}", name)
        assert written(agent.messages) == written(log[: number + 1])
        assert agent.conversation_manager.removed_message_count == 0


def test_a_fork_through_any_message_holds_what_was_trimmed_later_and_lacks_what_was_trimmed_before(path: Path) -> None:
    def build_trimming(session_id: str) -> Agent:
        manager = SQLiteSessionManager(session_id, path, synchronous="NORMAL")
        return build(manager, conversation_manager=SlidingWindowConversationManager(window_size=4))

    agent = build_trimming("original")
    for turn in range(4):
        agent(f"prompt {turn}")
    with SQLiteSessionRepository(path) as repository:
        log = [stored.to_message() for stored in repository.list_messages("original", "default")]
        # The window slides after each answer, so that a prompt follows at most four messages.
        for number, first in enumerate([0, 0, 0, 0, 0, 2, 2, 4]):
            repository.fork_session("original", f"fork {number}", through_message=number)
            fork = build_trimming(f"fork {number}")
            assert fork.messages == log[first : number + 1]
            assert fork.conversation_manager.removed_message_count == first
            fork("and on")
            assert len(fork.messages) <= 4
            assert held(build_trimming(f"fork {number}")) == held(fork)


def test_a_fork_manages_its_context_from_there_on(path: Path) -> None:
    name = "a sliding window"
    original = live_through(name, path)
    end = len(original.listed()) - 1
    original.fork_session("original", "fork", through_message=end)
    fork = resumed(path, "fork", name)
    assert held(fork) == held(resumed(path, "original", name))
    say(fork, "and on")
    assert len(fork.messages) <= fork.conversation_manager.window_size
    assert held(resumed(path, "fork", name)) == held(fork)
    assert len(original.list_messages("fork", "default")) == end + 3


def summarized(path: Path) -> tuple[SQLiteSessionManager, Agent, int]:
    """Have a conversation whose beginning is summarized; return the number of the first message after the summary."""
    manager = SQLiteSessionManager("original", path, synchronous="NORMAL")
    agent = build_summarizing(manager)
    for number in range(4):
        say(agent, f"prompt {number}")
    agent.conversation_manager.reduce_context(agent)
    say(agent, "behind the summary")
    say(agent, "far behind the summary")
    summary, first, *_ = agent.messages
    assert "a summary" in str(summary)
    log = [stored.to_message() for stored in manager.list_messages("original", "default")]
    return manager, agent, log.index(first)


def build_summarizing(manager: SQLiteSessionManager, **options: Any) -> Agent:
    summarizer = Agent(model=ScriptedModel("a summary", "another summary"), callback_handler=None)
    return build(
        manager, conversation_manager=SummarizingConversationManager(0.5, 2, summarizer, **options), state={"a": 1}
    )


def test_a_fork_through_a_message_after_a_summary_keeps_the_summary_in_front(path: Path) -> None:
    manager, agent, first = summarized(path)
    log = [stored.to_message() for stored in manager.list_messages("original", "default")]
    for number in range(first, len(log)):
        manager.fork_session("original", f"fork {number}", through_message=number)
        fork = build_summarizing(SQLiteSessionManager(f"fork {number}", path))
        is_summarized = number >= 8  # the summary was made when eight messages had been said
        expected = [agent.messages[0], *log[first : number + 1]] if is_summarized else log[: number + 1]
        assert written(fork.messages) == written(expected)
        say(fork, "and on")
        fork.conversation_manager.reduce_context(fork)
        say(fork, "and on")
        assert held(build_summarizing(SQLiteSessionManager(f"fork {number}", path))) == held(fork)


def test_a_fork_through_a_summarized_message_has_the_messages_back(path: Path) -> None:
    manager, _, first = summarized(path)
    log = [stored.to_message() for stored in manager.list_messages("original", "default")]
    for number in range(first):
        manager.fork_session("original", f"fork {number}", through_message=number)
        fork = build_summarizing(SQLiteSessionManager(f"fork {number}", path))
        assert written(fork.messages) == written(log[: number + 1])
        assert fork.conversation_manager.get_state()["summary_message"] is None
        for turn in range(3):
            say(fork, f"turn {turn}")
        fork.conversation_manager.reduce_context(fork)
        say(fork, "and on")
        assert held(build_summarizing(SQLiteSessionManager(f"fork {number}", path))) == held(fork)


def test_a_summary_stays_in_front_where_the_session_came_from_another_store(
    repository: SQLiteSessionRepository, path: Path
) -> None:
    summary = said("a summary")
    state = {"__name__": "SummarizingConversationManager", "removed_message_count": 4, "summary_message": summary}
    repository.create_session(Session("original", SessionType.AGENT))
    repository.create_agent("original", SessionAgent("default", {}, state))
    log = [said(f"message {number}", ("user", "assistant")[number % 2]) for number in range(10)]
    for number, message in enumerate(log):
        repository.create_message("original", "default", SessionMessage(message, number))
    whole = build_summarizing(SQLiteSessionManager("original", path))
    assert whole.messages == [summary, *log[4:]]
    repository.fork_session("original", "fork", through_message=7)
    assert build_summarizing(SQLiteSessionManager("fork", path)).messages == [summary, *log[4:8]]
    repository.fork_session("original", "earlier", through_message=3)
    assert build_summarizing(SQLiteSessionManager("earlier", path)).messages == log[:4]


def test_a_fork_through_a_tool_call_has_no_result_and_still_continues(path: Path) -> None:
    with SQLiteSessionManager("original", path) as manager:
        agent = build(manager, [tool_use("shout", "t1", text="a"), tool_use("shout", "t2", text="b")], "done")
        agent("shout")
        manager.fork_session("original", "fork", through_message=1)
    seen: list[Any] = []

    def reply(messages: list[dict[str, Any]]) -> str:
        seen.extend(messages)
        return "I see"

    with SQLiteSessionManager("fork", path) as manager:
        fork = build(manager, reply)
        assert [message["role"] for message in fork.messages] == ["user", "assistant"]
        fork("never mind")
        results = [block["toolResult"]["toolUseId"] for block in seen[2]["content"] if "toolResult" in block]
        assert sorted(results) == ["t1", "t2"]
        assert "never mind" in str(seen[2:])
        assert held(build(SQLiteSessionManager("fork", path))) == held(fork)


def test_a_redaction_holds_in_the_fork(path: Path, repository: SQLiteSessionRepository) -> None:
    add_session(repository, "original", agent_ids=[])
    state = SlidingWindowConversationManager().get_state()
    repository.create_agent("original", SessionAgent("default", {}, state))
    add_message(repository, "original", 1, "a secret", agent_id="default", redacted=said("[gone]"))
    add_message(repository, "original", 2, said("fine", "assistant"), agent_id="default", message_id=1)
    repository.fork_session("original", "whole")
    repository.fork_session("original", "cut", through_message=0)
    assert build(SQLiteSessionManager("whole", path)).messages == [said("[gone]"), said("fine", "assistant")]
    assert build(SQLiteSessionManager("cut", path)).messages == [said("[gone]")]
    assert repository.search_messages("a secret") == []


def test_an_interrupt_is_answered_in_the_fork_and_again_in_the_original(path: Path) -> None:
    name = "an interrupt without an answer"
    original = live_through(name, path)
    last = len(original.listed()) - 1
    original.fork_session("original", "fork")
    original.fork_session("original", "through the last", through_message=last)
    original.fork_session("original", "before", through_message=last - 1)
    before = stored_rows(path, "original")
    for session_id in ("fork", "through the last", "original"):
        assert stored_rows(path, "original") == before
        agent = resumed(path, session_id, name)
        (interrupt,) = agent._interrupt_state.interrupts.values()
        response = {"interruptResponse": {"interruptId": interrupt.id, "response": "yes"}}
        assert say(agent, [response], "done").stop_reason == "end_turn"
        assert "the value of a" in str(agent.messages[-2])
    agent = resumed(path, "before", name)
    assert not agent._interrupt_state.activated
    assert say(agent, "something else", "fine").stop_reason == "end_turn"


def test_a_fork_of_a_reordered_context_continues_from_what_the_agent_holds(path: Path) -> None:
    with SQLiteSessionManager("original", path) as manager:
        agent = build(manager)
        for number in range(4):
            agent(f"prompt {number}")
        agent.messages[:] = [said("a note"), *agent.messages[4:], *agent.messages[:4]]
        agent("and on")
        manager.fork_session("original", "fork", through_message=3)
    fork = build(SQLiteSessionManager("fork", path))
    for number in range(4):
        fork(f"to the fork {number}")
    assert written(build(SQLiteSessionManager("fork", path)).messages) == written(fork.messages)


# -- several agents, orchestrators, everything else --


def test_a_fork_through_a_message_of_one_agent_copies_the_others_whole(path: Path) -> None:
    with SQLiteSessionManager("original", path) as manager:
        agents = [build(manager, agent_id=agent_id) for agent_id in ("ada", "bob")]
        for _ in range(3):
            for agent in agents:
                agent("hello")
        before = stored_rows(path, "original")
        manager.fork_session("original", "fork", agent_id="bob", through_message=1)
        assert stored_rows(path, "original") == before
    with SQLiteSessionManager("fork", path) as manager:
        ada, bob = (build(manager, agent_id=agent_id) for agent_id in ("ada", "bob"))
        assert written(ada.messages) == written(agents[0].messages)
        assert written(bob.messages) == written(agents[1].messages[:2])
        bob("and on")
        ada("and on")
        assert len(manager.list_messages("fork", "bob")) == 4
        assert len(manager.list_messages("fork", "ada")) == 8


def test_a_fork_has_the_metadata_agents_orchestrators_and_times_of_the_original(
    repository: SQLiteSessionRepository, path: Path
) -> None:
    add_session(repository, "original", 1, ["zoe", "ada"])
    repository.update_session_metadata("original", {"user_id": "42", 'odd "key"': "é"})
    add_message(repository, "original", 2, agent_id="ada")
    repository.create_multi_agent("original", Orchestrator("graph", {"raw": b"\x00\xff"}))
    before = stored_rows(path, "original")
    fork = repository.fork_session("original", "fork")
    assert (fork.session_id, fork.session_type) == ("fork", SessionType.AGENT)
    stored = repository.read_session("fork")
    assert stored == fork
    assert fork.created_at == fork.updated_at > at(2)
    assert repository.list_agents("fork") == repository.list_agents("original")
    assert repository.list_messages("fork", "ada") == repository.list_messages("original", "ada")
    assert repository.read_multi_agent("fork", "graph") == {"raw": b"\x00\xff"}
    summaries = {summary.session_id: summary for summary in repository.list_sessions(metadata={"user_id": "42"})}
    assert summaries["fork"].metadata == summaries["original"].metadata == {"user_id": "42", 'odd "key"': "é"}
    assert stored_rows(path, "original") == before
    assert repository.check() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_team_continues_in_the_fork_and_again_in_the_original(kind: str, path: Path, tmp_path: Path) -> None:
    manager = SQLiteSessionManager("original", path)
    with suppress(RuntimeError):  # a swarm reports an accident by its status
        build_team(kind, manager, tmp_path, "raises")("the task")
    assert ran(tmp_path) == ["a", "b"]
    before = stored_rows(path, "original")
    manager.fork_session("original", "fork")
    started = len(ran(tmp_path))
    results = []
    for session_id in ("fork", "original"):
        assert stored_rows(path, "original") == before
        result = build_team(kind, SQLiteSessionManager(session_id, path), tmp_path)("the task")
        results.append((result.status.value, sorted(result.results)))
    assert results[0] == results[1]
    again = ran(tmp_path)[started:]
    assert again[: len(again) // 2] == again[len(again) // 2 :]


def test_deleting_either_leaves_the_other(repository: SQLiteSessionRepository, path: Path) -> None:
    add_session(repository, "original")
    add_message(repository, "original", 1)
    repository.fork_session("original", "first")
    repository.fork_session("first", "second")
    before = stored_rows(path, "second")
    repository.delete_session("original")
    repository.delete_session("first")
    assert stored_rows(path, "second") == before
    assert repository.list_messages("second", "ada")[0].message == said("hello")


def test_a_live_agent_continues_after_it_was_forked(path: Path) -> None:
    with SQLiteSessionManager("original", path) as manager:
        agent = build(manager)
        for number in range(3):
            agent(f"prompt {number}")
            manager.fork_session("original", f"fork {number}")
        assert [len(manager.list_messages(f"fork {number}", "default")) for number in range(3)] == [2, 4, 6]


def test_a_session_in_memory_can_be_forked() -> None:
    with SQLiteSessionManager("original", ":memory:") as manager:
        build(manager)("hello")
        manager.fork_session("original", "fork", through_message=0)
        assert len(manager.list_messages("fork", "default")) == 1


def test_a_fork_while_another_thread_appends_is_of_one_moment(path: Path) -> None:
    with SQLiteSessionManager("original", path, synchronous="NORMAL") as manager:
        agent = build(manager)
        stop = threading.Event()
        begun = threading.Event()

        def talk() -> None:
            while not stop.is_set():
                agent.state.set("said", agent.event_loop_metrics.cycle_count)
                agent("hello")
                begun.set()

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            assert begun.wait(PATIENCE)
            with SQLiteSessionRepository(path) as repository:
                for number in range(30):
                    repository.fork_session("original", f"fork {number}")
                    last = max(len(repository.list_messages(f"fork {number}", "default")) - 1, 0)
                    repository.fork_session("original", f"cut {number}", through_message=last)
        finally:
            stop.set()
            thread.join()
        log = [stored.to_message() for stored in manager.list_messages("original", "default")]
        for number in range(30):
            for session_id in (f"fork {number}", f"cut {number}"):
                copied = [stored.to_message() for stored in manager.list_messages(session_id, "default")]
                assert copied == log[: len(copied)]
            fork = build(SQLiteSessionManager(f"fork {number}", path))
            assert fork.messages == log[: len(copied)][-len(fork.messages) :]
        assert manager.check() == []


def test_thousands_of_messages_are_forked_whole(repository: SQLiteSessionRepository, path: Path) -> None:
    add_session(repository, "original")
    add_session(repository, "newer", 20_000)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message)"
            " VALUES ('original', 'ada', ?, ?, ?, ?)",
            ((number, at(number), at(number), f'{{"number":{number}}}') for number in range(4_000)),
        )
    before = stored_rows(path, "original")
    repository.fork_session("original", "fork")
    repository.fork_session("original", "half", through_message=1_999)
    assert stored_rows(path, "original") == before
    for session_id, copied in (("fork", before["messages"]), ("half", before["messages"][:2_000])):
        stored = stored_rows(path, session_id)["messages"]
        assert [(session_id, *row[2:]) for row in copied] == [row[1:] for row in stored]  # in a sequence of its own
    assert [summary.session_id for summary in repository.list_sessions()] == ["half", "fork", "newer", "original"]


# -- refused --


@pytest.mark.parametrize(
    ("ids", "arguments", "error", "told"),
    [
        (("nobody", "fork"), {}, SessionNotFoundException, "Session nobody does not exist"),
        (("original", "other"), {}, SessionExistsException, "Session other already exists"),
        (("original", "original"), {}, SessionExistsException, "Session original already exists"),
        (("nobody", "other"), {}, SessionNotFoundException, "Session nobody does not exist"),
        (("original", "a/b"), {}, ValueError, "session_id=a/b"),
        (("", "fork"), {}, ValueError, "session_id"),
        (("original", " "), {}, ValueError, "session_id"),
        (("original", "fork"), {"through_message": 0}, ValueError, "ada, bob"),
        (("original", "fork"), {"agent_id": "ada"}, ValueError, "through_message"),
        (("original", "fork"), {"agent_id": "a/b", "through_message": 0}, ValueError, "agent_id"),
        (("original", "fork"), {"agent_id": "ada", "through_message": 2}, SessionNotFoundException, "Message 2.*ada"),
        (("original", "fork"), {"agent_id": "ada", "through_message": -2}, SessionNotFoundException, "Message -2.*ada"),
        (("original", "fork"), {"agent_id": "bob", "through_message": 0}, SessionNotFoundException, "Message 0.*bob"),
        (("original", "fork"), {"agent_id": "eve", "through_message": 0}, SessionNotFoundException, "Agent eve"),
        (("original", "fork"), {"agent_id": "ada", "through_message": "0"}, ValueError, "message_id"),
        (("original", "fork"), {"agent_id": "ada", "through_message": 2**63}, ValueError, "message_id"),
        (("other", "fork"), {"through_message": 0}, SessionNotFoundException, "agent in session other does not exist"),
        (("original", "fork"), {"through": 0}, TypeError, "through"),
    ],
)
def test_what_cannot_be_forked_is_refused_and_leaves_nothing(
    repository: SQLiteSessionRepository,
    path: Path,
    ids: tuple[str, str],
    arguments: dict[str, Any],
    error: type[Exception],
    told: str,
) -> None:
    add_session(repository, "original", 0, ["ada", "bob"])
    add_session(repository, "other", 0, [])
    for number in range(2):
        add_message(repository, "original", number, message_id=number)
    before = [query(path, f"SELECT * FROM {table}") for table in TABLES]
    with pytest.raises(error, match=told):
        repository.fork_session(*ids, **arguments)
    assert [query(path, f"SELECT * FROM {table}") for table in TABLES] == before


def test_a_fork_that_fails_half_way_leaves_nothing(repository: SQLiteSessionRepository, path: Path) -> None:
    add_session(repository, "original")
    add_message(repository, "original", 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE agents SET context = 'broken'")
    with pytest.raises(SessionException, match="context of agent ada in session original"):
        repository.fork_session("original", "fork", through_message=0)
    assert repository.read_session("fork") is None
    assert query(path, "SELECT count(*) FROM messages") == [(1,)]
