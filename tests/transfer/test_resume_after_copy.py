"""After a copy, a real agent continues with the same messages and state, as far as the rules of the store allow.

Other stores resume an agent with its summary and the messages after those that its conversation manager counts as
removed. A context that is not the end of the history, for example with pinned messages or a gap, resumes by that
manager's rules.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager

from strands_sqlite_session_manager import copy_session

from ..manager.test_orchestrators import files_resume
from ..support.fresh_processes import held_by
from ..support.histories import HISTORIES
from ..support.histories.history import History, accepts, build, say, user
from ..support.orchestrators import build_team, ran
from ..support.recording_manager import written
from ..support.scripted_model import REDACT_INPUT
from ..support.stores import Store, conversation, finished_in_place, new_store, s3_server, sqlite_store
from ..support.tiers import tier

SESSION = "session"

KEPT_ANYWHERE = (
    "nothing at all",
    "plain turns",
    "parallel tools",
    "bytes in a prompt and in a tool result",
    "messages and state from the start and a turn",
    "state set by tools and between turns",
    "structured output",
    "guardrail redaction",
    "guardrail redaction of a tool result",
    "a prompt that is tried again and then redacted",
    "a turn in which the model fails",
    "an interrupt from a tool",
    "an interrupt from a tool and its answer",
    "a sliding window",
    "a sliding window that overflows",
    "a sliding window before every other model call",
    "a truncated tool result",
    "a truncated tool result that is trimmed later",
    "a summary",
    "a summary of a summary",
    "a summary made early",
    "a program that edits one in place",
    "a program that removes all",
    "a program that removes the first",
    "an edit that is undone",
    "the first two deleted and another turn",
    "a redaction of an edited message",
)
"""Histories whose agent holds the end of what was said, behind a summary or not, edited or not."""

A_FEW = (
    "plain turns",
    "bytes in a prompt and in a tool result",
    "guardrail redaction",
    "a truncated tool result",
    "a summary",
    "a program that removes all",
)
"""A few of them, for stores that go by the same rules as files."""

MOVES = tier(
    [*(("files", name) for name in KEPT_ANYWHERE), *((kind, name) for kind in ("memory", "s3") for name in A_FEW)],
    quick=[
        *(("files", name) for name in KEPT_ANYWHERE[::9]),
        *(("memory", "a truncated tool result"), ("s3", "bytes in a prompt and in a tool result")),
    ],
)


@pytest.fixture(scope="module", autouse=True)
def s3_url() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_server() as url:
        yield url


def history_of(name: str) -> History:
    """Return a history that the installed Strands can have."""
    history = HISTORIES[name]
    if history.missing:
        pytest.skip(history.missing)
    return history


def live(history: History, store: Store) -> Agent:
    """Live through a history in a store."""
    agent = history.build(store.open(SESSION))
    history.drive(agent)
    return agent


def move(source: Store, target: Store) -> None:
    """Copy the session and its agent from one store to another."""
    copy_session(source.whole(), target.whole(), SESSION, **source.ids(("default",)))


@pytest.mark.parametrize(("kind", "name"), MOVES)
def test_an_agent_that_leaves_sqlite_resumes_with_what_it_had(kind: str, name: str, tmp_path: Path) -> None:
    history = history_of(name)
    sqlite, elsewhere = sqlite_store(tmp_path / "a.db"), new_store(kind, tmp_path, "elsewhere")
    had = conversation(live(history, sqlite))
    move(sqlite, elsewhere)
    assert conversation(history.build(elsewhere.open(SESSION))) == had


@pytest.mark.parametrize(("kind", "name"), MOVES)
def test_an_agent_that_comes_to_sqlite_resumes_as_it_would_have_where_it_was(
    kind: str, name: str, tmp_path: Path
) -> None:
    history = history_of(name)
    elsewhere, sqlite = new_store(kind, tmp_path, "elsewhere"), sqlite_store(tmp_path / "a.db")
    live(history, elsewhere)
    move(elsewhere, sqlite)
    arrived = written(held_by(history.build(sqlite.open(SESSION))))
    assert arrived == written(held_by(history.build(elsewhere.open(SESSION))))


@pytest.mark.parametrize("name", KEPT_ANYWHERE[::2])
def test_an_agent_that_is_copied_away_and_back_has_what_it_had_and_continues(name: str, tmp_path: Path) -> None:
    history = history_of(name)
    stores = [sqlite_store(tmp_path / "a.db"), new_store("files", tmp_path, "files"), sqlite_store(tmp_path / "b.db")]
    had = conversation(live(history, stores[0]))
    for source, target in pairwise(stores):
        move(source, target)
    back = history.build(stores[-1].open(SESSION))
    assert conversation(back) == had
    if name != "an interrupt from a tool":
        say(back, "and on", "gladly")
        assert written(held_by(history.build(stores[-1].open(SESSION)))) == written(held_by(back))


@pytest.mark.parametrize("kind", tier(["files", "memory", "s3", "sqlite"], quick=["files", "sqlite"]))
def test_an_agent_that_was_copied_continues_and_resumes_again(kind: str, tmp_path: Path) -> None:
    history = HISTORIES["a summary"]
    sqlite, elsewhere = sqlite_store(tmp_path / "a.db"), new_store(kind, tmp_path, "elsewhere")
    live(history, sqlite)
    before = sqlite.content(SESSION)
    move(sqlite, elsewhere)
    agent = history.build(elsewhere.open(SESSION))
    for number in range(2):
        say(agent, f"and on {number}")
    assert conversation(history.build(elsewhere.open(SESSION))) == conversation(agent)
    assert sqlite.content(SESSION) == before


def between_sqlite_files() -> list[str]:
    """The histories that only we resume exactly, with some of the others."""
    return [
        *KEPT_ANYWHERE[::5],
        "a sliding window with pins",
        "a summary of a summary with pins",
        "a manager that reorders",
        "a manager that inserts",
        "a program that replaces one",
        "a program that repeats one otherwise",
        "an interrupt without an answer",
        "what was removed comes back",
        "the same object many times edited",
    ]


@pytest.mark.parametrize("name", between_sqlite_files())
def test_between_sqlite_files_an_agent_resumes_exactly(name: str, tmp_path: Path) -> None:
    history = history_of(name)
    source, target = (sqlite_store(tmp_path / f"{end}.db") for end in ("source", "target"))
    had = written(held_by(live(history, source)))
    move(source, target)
    assert written(held_by(history.build(target.open(SESSION)))) == had


# -- what other stores cannot hold --


def clear(agent: Agent) -> None:
    agent.messages.clear()


def clear_and_talk(agent: Agent) -> None:
    agent.messages.clear()
    say(agent, "a new subject")


def shorten(agent: Agent) -> None:
    del agent.messages[:3]
    say(agent, "where were we?")


def edit_and_redact(agent: Agent) -> None:
    agent.messages[1]["content"][0]["text"] = "as edited"
    say(agent, "a secret", REDACT_INPUT)


@pytest.mark.parametrize("edit", [clear_and_talk, shorten, edit_and_redact])
@pytest.mark.parametrize("kind", tier(["files", "memory", "s3"], quick=["files"]))
def test_a_context_that_ends_the_history_resumes_there_even_if_no_manager_trimmed_it(
    kind: str, edit: Callable[[Agent], None], tmp_path: Path
) -> None:
    sqlite, elsewhere = sqlite_store(tmp_path / "a.db"), new_store(kind, tmp_path, "elsewhere")
    agent = build(sqlite.open(SESSION), {})
    for number in range(3):
        say(agent, f"question {number}")
    edit(agent)
    move(sqlite, elsewhere)
    there = build(elsewhere.open(SESSION), {})
    assert there.messages == agent.messages
    assert there.conversation_manager.removed_message_count == len(logged(sqlite)) - len(agent.messages)
    # The history is whole, and what was redacted is nowhere in it.
    assert [message.message for message in elsewhere.whole().list_messages(SESSION, "default")] == logged(sqlite)
    assert "a secret" not in str(elsewhere.content(SESSION))


def logged(store: Store) -> list[Any]:
    """What was said, all of it."""
    return [message.message for message in store.whole().list_messages(SESSION, "default")]


def pins() -> dict[str, Any]:
    if not accepts(SlidingWindowConversationManager, "pin_first"):
        pytest.skip("this Strands pins no messages")
    return {"conversation_manager": SlidingWindowConversationManager(4, pin_first=2)}


def only_talk(agent: Agent) -> None:
    say(agent, "and on")


def delete_in_the_middle(agent: Agent) -> None:
    del agent.messages[2:4]
    say(agent, "something is missing")


def insert_in_front(agent: Agent) -> None:
    agent.messages.insert(0, user("a note"))
    say(agent, "something is new")


def reverse(agent: Agent) -> None:
    agent.messages.reverse()
    say(agent, "what is the matter?")


@pytest.mark.parametrize("kind", tier(["files", "memory", "s3"], quick=["files"]))
@pytest.mark.parametrize(
    ("arguments", "edit"),
    [(pins, only_talk), (dict, delete_in_the_middle), (dict, insert_in_front), (dict, reverse)],
    ids=["pinned", "deleted in the middle", "inserted in front", "reversed"],
)
def test_any_other_context_resumes_there_by_the_rules_of_its_conversation_manager(
    arguments: Callable[[], dict[str, Any]], edit: Callable[[Agent], None], kind: str, tmp_path: Path
) -> None:
    sqlite, elsewhere = sqlite_store(tmp_path / "a.db"), new_store(kind, tmp_path, "elsewhere")
    agent = build(sqlite.open(SESSION), arguments())
    for number in range(4):
        say(agent, f"question {number}")
    edit(agent)
    had = copy.deepcopy(agent.messages)
    removed = agent.conversation_manager.removed_message_count
    move(sqlite, elsewhere)
    there = build(elsewhere.open(SESSION), arguments())
    said = [message.to_message() for message in sqlite.whole().list_messages(SESSION, "default")]
    assert there.messages == said[removed:]
    assert there.messages != had
    assert there.conversation_manager.get_state() == agent.conversation_manager.get_state()
    # Where it came from, it is as it was.
    assert build(sqlite.open(SESSION), arguments()).messages == had


@pytest.mark.parametrize("kind", tier(["files", "memory", "s3"], quick=["files"]))
def test_a_summary_that_the_agent_no_longer_holds_does_not_come_back_there(kind: str, tmp_path: Path) -> None:
    history = HISTORIES["a summary"]
    sqlite, elsewhere = sqlite_store(tmp_path / "a.db"), new_store(kind, tmp_path, "elsewhere")
    agent = live(history, sqlite)
    assert agent.conversation_manager.get_state()["summary_message"]
    clear_and_talk(agent)
    move(sqlite, elsewhere)
    assert conversation(history.build(elsewhere.open(SESSION))) == conversation(agent)


@pytest.mark.parametrize("kind", tier(["files", "memory", "s3"], quick=["files"]))
def test_each_agent_of_a_copied_session_resumes_with_its_own_context(kind: str, tmp_path: Path) -> None:
    sqlite, elsewhere = sqlite_store(tmp_path / "a.db"), new_store(kind, tmp_path, "elsewhere")
    manager = sqlite.open(SESSION)
    ada, bob = build(manager, {}, "ada"), build(manager, {}, "bob")
    say(ada, "hello")
    clear(bob)
    for number in range(3):
        say(bob, f"question {number}")
    clear_and_talk(bob)
    copy_session(sqlite.whole(), elsewhere.whole(), SESSION)
    manager = elsewhere.open(SESSION)
    assert conversation(build(manager, {}, "ada")) == conversation(ada)
    assert conversation(build(manager, {}, "bob")) == conversation(bob)


# -- teams --


@pytest.mark.parametrize(
    ("team", "leaves", "kind"),
    tier(
        product(["graph", "swarm"], [True, False], ["files", "s3"]),
        quick=[("graph", True, "files"), ("swarm", False, "files")],
    ),
)
def test_a_team_that_was_stopped_half_way_continues_after_the_copy(
    team: str, leaves: bool, kind: str, tmp_path: Path
) -> None:
    if not files_resume(team):
        pytest.skip(f"this version of Strands cannot resume a {team} from FileSessionManager either")
    sqlite, elsewhere = sqlite_store(tmp_path / "a.db"), new_store(kind, tmp_path, "elsewhere")
    source, target = (sqlite, elsewhere) if leaves else (elsewhere, sqlite)
    stopped = build_team(team, source.open(SESSION), tmp_path, "raises")
    with suppress(RuntimeError):
        stopped("the task")
    assert ran(tmp_path) == ["a", "b"]
    stored = source.whole().read_multi_agent(SESSION, "team")
    copy_session(source.whole(), target.whole(), SESSION, **source.ids((), ("team",)))
    assert target.whole().read_multi_agent(SESSION, "team") == stored
    result = build_team(team, target.open(SESSION), tmp_path)("the task")
    assert (result.status.value, ran(tmp_path)) == finished_in_place(team, source, tmp_path)
