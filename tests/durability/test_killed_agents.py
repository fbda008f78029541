"""Agents are killed while they converse, again and again on one file: nothing stored is lost or half stored.

Each time, agents of several sessions converse in threads of one process, with tools, pictures, and sliding windows,
until SIGKILL ends it at a random moment. They write what they have stored into a diary outside the database.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager

from strands_sqlite_session_manager import SQLiteSessionRepository

from ..support.histories.history import build, call, say, user
from ..support.message_diary import Diary, Witnessed, assert_as_witnessed
from ..support.workers import PATIENCE, in_threads, killed

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")

if not (hasattr(signal, "SIGKILL") and hasattr(os, "fork")):
    pytest.skip("this system kills in another way", allow_module_level=True)

PAIR = ("ada", "bob")
MOST = 30_000  # bytes that a life writes into the diary before it ends, some fifty messages
LONG = 10  # times as long is a life in which SQLite checkpoints the write-ahead log


def speak(agent: Any, name: str, chance: random.Random) -> None:
    """Run a turn in which everything said differs from all that was said before."""
    kind = chance.choice(["text", "tools", "picture", "state"])
    calls = {
        "text": [],
        "tools": [
            [
                {"text": f"{name} calls"},
                call("recite", f"{name}a", lines=chance.randrange(50)),
                call("lookup", f"{name}b", key=name),
            ],
            [call("stumble", f"{name}c")],
        ],
        "picture": [[call("photograph", f"{name}a")]],
        "state": [[call("remember", f"{name}a", key="last", value={"turn": name})]],
    }[kind]
    say(agent, f"{name} asks: grüße 🧭", *calls, f"{name} is told{' at length' * chance.choice([0, 10, 1000])}")


def join(manager: Witnessed, agent_id: str = "default", **options: Any) -> Agent:
    """Build an agent on a session; in one of them, a window slides over what it holds."""
    sliding = manager.session_id == "alone"
    conversation_manager = SlidingWindowConversationManager(window_size=6) if sliding else NullConversationManager()
    return build(manager, {"conversation_manager": conversation_manager, **options}, agent_id)


def converse(index: int, path: Path, diary: Diary, managers: list[Witnessed], life: int) -> None:
    """Talk as one of the agents, or as a new one in a new session every few turns, until the process ends."""
    chance = random.Random(f"{life}.{index}")
    agent = None
    for turn in count():
        name = f"{life}.{index}.{turn}"
        if index < len(managers):
            agent = agent or join(managers[index], PAIR[index % 2])
        elif turn % 3 == 0:
            from_the_start = [user(f"{name} begins with {number}") for number in range(20)]
            agent = join(Witnessed(name, path, diary), messages=from_the_start)
        speak(agent, name, chance)


def live(path: Path, diary: Diary, life: int) -> None:
    """Have four agents converse, forever."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(2 * PATIENCE)  # or this long, if the test fails and never kills it
    synchronous = ("FULL", "NORMAL")[life % 2]
    alone, pair = (Witnessed(session_id, path, diary, synchronous=synchronous) for session_id in ("alone", "pair"))
    in_threads(4, converse_or_tell, path, diary, [alone, pair, pair], life)


def converse_or_tell(*arguments: Any) -> None:
    """Converse; end the whole process if that fails, so that the failure is noticed at once."""
    try:
        converse(*arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def at_random(diary: Diary, chance: random.Random, meanwhile: Callable[[], object]) -> Callable[[], bool]:
    """Return a function that says when a random moment has come, after the diary has grown by a random length."""
    enough = diary.size() + chance.randrange(MOST) * (LONG if chance.random() < 0.05 else 1)
    delay = chance.uniform(0, 0.005)
    patience_ends = time.monotonic() + PATIENCE
    reached: list[float] = []

    def is_time() -> bool:
        meanwhile()
        now = time.monotonic()
        assert now < patience_ends, "nothing is being said"
        if not reached and diary.size() >= enough:
            reached.append(now)
        return bool(reached) and now >= reached[0] + delay

    return is_time


def kill_again_and_again(folder: Path, rounds: int) -> None:
    """Kill one life after the other on one file, and look at what they left, sometimes after several only."""
    path, diary = folder / "sessions.db", Diary(folder / "diary")
    chance = random.Random(rounds)
    # A reader that outlives all of them, in a process that sometimes has the file open when another one dies.
    bystander = join(Witnessed("bystander", path, diary, synchronous="NORMAL"))
    turns = count()

    def go_on() -> None:
        speak(bystander, f"bystander.{next(turns)}", chance)

    for life in range(rounds):
        meanwhile = go_on if chance.random() < 0.3 else lambda: None
        ended_by = killed(lambda life=life: live(path, diary, life), at_random(diary, chance, meanwhile))
        assert ended_by == signal.SIGKILL
        if chance.random() < 0.3 or life == rounds - 1:
            with SQLiteSessionRepository(path) as repository:
                assert repository.check() == [], f"after life {life} of {rounds}"
                assert_as_witnessed(repository, diary)
                resume_and_go_on(repository, path, diary, life, chance)
    with SQLiteSessionRepository(path) as repository:
        assert_as_witnessed(repository, diary)
        assert repository.check() == []
    diary.close()


def resume_and_go_on(
    repository: SQLiteSessionRepository, path: Path, diary: Diary, life: int, chance: random.Random
) -> None:
    """Assert that an agent resumes from what is left, and that its answer is stored after it."""
    there = [
        (summary.session_id, agent_id)
        for summary in repository.list_sessions()
        for agent_id in summary.agent_ids
        if summary.session_id != "bystander"
    ]
    if not there:  # the first one died before it was born
        return
    session_id, agent_id = chance.choice(there)
    before = repository.list_messages(session_id, agent_id)
    with Witnessed(session_id, path, diary) as manager:
        agent = join(manager, agent_id)
        assert bool(agent.messages) == bool(before)
        say(agent, f"who is left after {life}?", f"I am, after {life}")
    after = repository.list_messages(session_id, agent_id)
    assert [message.to_dict() for message in after[: len(before)]] == [message.to_dict() for message in before]
    assert after[-1].message["content"] == [{"text": f"I am, after {life}"}]


def test_a_killed_process_loses_no_committed_message(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 4)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_file_whose_writers_are_killed_500_times_loses_nothing(tmp_path: Path, scaled: Callable[[int], int]) -> None:
    """One file outlives 500 processes, each killed while four agents of it converse.

    Every message whose write had returned is there, whole and in order, and none is half stored; the file is sound;
    agents resume and continue; and a process that has the file open all the while is not disturbed.
    """
    kill_again_and_again(tmp_path, scaled(500))
