"""Of two agents that continue one conversation, the second is refused, and nothing is lost."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.state import AgentState
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, StaleSessionException

from ..support.concurrent_writers import race, say, start_agents
from ..support.conversations import build, resume
from ..support.fresh_processes import at_once, held_by, in_a_new_process, open_session
from ..support.scripted_model import REDACT_INPUT, ScriptedModel

Deed = Callable[[SQLiteSessionManager, Agent], Any]


def everything(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the database."""
    connection = sqlite3.connect(folder / "sessions.db")
    tables = ("sessions", "agents", "messages", "multi_agents")
    rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    connection.close()
    return rows


def texts(manager: Any) -> list[str]:
    """What was said in the session."""
    return [message.to_message()["content"][0]["text"] for message in manager.list_messages("session", "default")]


def set_state(manager: SQLiteSessionManager, agent: Agent) -> None:
    """Change the agent's state and nothing else."""
    agent.state.set("changed by", str(id(agent)))
    manager.sync_agent(agent)


def forget(manager: SQLiteSessionManager, agent: Agent) -> None:
    """Change which messages the agent holds and nothing else."""
    agent.messages.pop(0)
    manager.sync_agent(agent)


def redact(manager: SQLiteSessionManager, agent: Agent) -> None:
    """Change the latest message and nothing else."""
    agent.messages[-1]["content"] = [{"text": "[redacted]"}]
    manager.redact_latest_message(agent.messages[-1], agent)


def say_what_is_redacted(manager: SQLiteSessionManager, agent: Agent) -> None:
    """Take a turn that a guardrail objects to."""
    agent.model = ScriptedModel(REDACT_INPUT)
    agent("my card is 4111-1111")


DEEDS: dict[str, Deed] = {
    "speaks": lambda manager, agent: agent("so I say"),
    "says what is redacted": say_what_is_redacted,
    "changes its state": set_state,
    "forgets a message": forget,
    "redacts": redact,
}


@pytest.mark.parametrize("late", DEEDS)
@pytest.mark.parametrize("early", DEEDS)
def test_the_later_writer_is_refused_and_changes_nothing(early: str, late: str, tmp_path: Path) -> None:
    first, second = open_session("sqlite", "session", tmp_path), open_session("sqlite", "session", tmp_path)
    loser = build(first)
    loser("hello")
    winner = build(second)
    DEEDS[early](second, winner)
    assert_refused(late, first, loser, tmp_path)
    assert resume(tmp_path) == held_by(winner)


@pytest.mark.parametrize("late", DEEDS)
def test_a_session_that_was_deleted_and_created_again_is_not_mistaken_for_the_same(late: str, tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    loser = build(manager)
    loser("hello")
    SQLiteSessionRepository(tmp_path / "sessions.db").delete_session("session")
    winner = build(open_session("sqlite", "session", tmp_path))
    winner("hello")
    assert_refused(late, manager, loser, tmp_path)
    assert resume(tmp_path) == held_by(winner)


def assert_refused(deed: str, manager: SQLiteSessionManager, agent: Agent, folder: Path) -> None:
    """Try it, and try it again."""
    stored = everything(folder)
    for _ in range(2):
        with pytest.raises(
            StaleSessionException, match="another writer continued the conversation since it was loaded here"
        ):
            DEEDS[deed](manager, agent)
        assert everything(folder) == stored


def test_the_refusal_says_how_to_continue_and_that_works(tmp_path: Path) -> None:
    loser = build(open_session("sqlite", "session", tmp_path))
    in_a_new_process(say, tmp_path, "I was first")
    with pytest.raises(SessionException, match=r"(?i)nothing was overwritten.* build a new session manager"):
        loser("I was late")

    manager = open_session("sqlite", "session", tmp_path)
    rebuilt = build(manager, "go on")
    rebuilt("once more")
    assert texts(manager) == ["I was first", "hear, hear", "once more", "go on"]
    assert in_a_new_process(resume, tmp_path) == held_by(rebuilt)


def test_the_file_session_manager_overwrites_silently_where_ours_refuses(tmp_path: Path) -> None:
    outcome = {}
    for store in ("files", "sqlite"):
        first, second = (build(open_session(store, "session", tmp_path)) for _ in range(2))
        first("I was first")
        try:
            second("I was late")
        except StaleSessionException:
            outcome[store] = "refused"
        else:
            outcome[store] = "accepted"
        outcome[store] += f", stored is: {texts(open_session(store, 'session', tmp_path))[0]}"
    assert outcome == {"files": "accepted, stored is: I was late", "sqlite": "refused, stored is: I was first"}


def test_a_turn_during_another_agents_turn_makes_that_turn_stale(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    loser = build(manager)
    loser.model = ScriptedModel(lambda messages: say(tmp_path, "excuse me") or "as I was saying")
    with pytest.raises(StaleSessionException):
        loser("hello")
    assert texts(manager) == ["hello", "excuse me", "hear, hear"]


def test_of_many_threads_that_continue_at_once_one_succeeds(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    build(manager)("hello")
    agents = [build(open_session("sqlite", "session", tmp_path), f"reply to {number}") for number in range(8)]
    together = threading.Barrier(len(agents))
    outcomes: list[str] = []

    def speak(number: int) -> None:
        together.wait()
        try:
            agents[number](f"prompt {number}")
        except StaleSessionException:
            outcomes.append("refused")
        else:
            outcomes.append(str(number))

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(len(agents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (winner,) = set(outcomes) - {"refused"}
    assert outcomes.count("refused") == len(agents) - 1
    assert texts(manager) == ["hello", "reply 1", f"prompt {winner}", f"reply to {winner}"]
    assert resume(tmp_path) == held_by(agents[int(winner)])


def test_of_many_processes_that_continue_at_once_one_succeeds(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    build(manager)("hello")
    prompts = [f"prompt {number}" for number in range(6)]
    stored = at_once(race, [(tmp_path, prompt) for prompt in prompts])
    assert stored.count(True) == 1
    assert texts(manager) == ["hello", "reply 1", prompts[stored.index(True)], "reply 1"]


def test_processes_that_start_the_same_new_agent_all_succeed(tmp_path: Path) -> None:
    session_ids = [f"session {number}" for number in range(10)]
    at_once(start_agents, [(tmp_path, session_ids)] * 4)
    repository = SQLiteSessionRepository(tmp_path / "sessions.db")
    for session_id in session_ids:
        assert [agent.agent_id for agent in repository.list_agents(session_id)] == ["default"]
        (message,) = repository.list_messages(session_id, "default")
        assert message.to_message()["content"] == [{"text": "first"}]


def test_an_agent_that_another_process_creates_first_joins_it(tmp_path: Path) -> None:
    class Hesitant(AgentState):
        """Is overtaken at the moment when its agent has found none in the session and is about to create one."""

        def get(self, key: str | None = None) -> Any:
            if not (tmp_path / "overtaken").exists():
                (tmp_path / "overtaken").touch()
                say(tmp_path, "I was first")
            return super().get(key)

    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager, "so I was", state=Hesitant({"mine": "not stored"}))
    assert agent.state.get() == {}
    agent("and I was second")
    assert texts(manager) == ["I was first", "hear, hear", "and I was second", "so I was"]
    assert [message["content"][0]["text"] for message in agent.messages] == texts(manager)


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deleted_session_is_named_and_not_brought_back(deed: str, tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager)
    agent("hello")
    SQLiteSessionRepository(tmp_path / "sessions.db").delete_session("session")
    with pytest.raises(SessionException, match="session session does not exist") as caught:
        DEEDS[deed](manager, agent)
    assert not isinstance(caught.value, StaleSessionException)
    with pytest.raises(SessionException, match="Session session does not exist"):
        build(manager, agent_id="new")
    assert not any(everything(tmp_path).values())


def test_other_agents_and_sessions_never_interfere(tmp_path: Path) -> None:
    ids = [(session_id, agent_id) for session_id in ("one", "two") for agent_id in ("a", "b")]
    agents = [build(open_session("sqlite", session_id, tmp_path), agent_id=agent_id) for session_id, agent_id in ids]
    for turn in range(3):
        for agent in agents:
            agent.state.set("turn", turn)
            agent(f"turn {turn}")
    repository = SQLiteSessionRepository(tmp_path / "sessions.db")
    assert [len(repository.list_messages(*pair)) for pair in ids] == [6] * 4
