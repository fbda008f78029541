"""Many processes do everything that one can do with a file, at the same time.

Only documented errors occur, and no writer times out. What returned is stored, what was deleted is gone, message ids
have no gaps, and neither a reader nor a backup sees part of a transaction.
"""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.concurrent_users import (
    DEEDS,
    LOGS,
    SHARED,
    TALKS,
    Memory,
    join_in,
    prepare,
    real_agent,
    torn_sessions,
    torn_turn,
)
from ..support.fresh_processes import at_once
from ..support.workers import PATIENCE

TIMEOUT = 30  # seconds, the default of a manager


@pytest.mark.parametrize("seed", [1])
def test_processes_that_do_everything_at_once_lose_nothing_and_see_nothing_half_done(seed: int, tmp_path: Path) -> None:
    """3 processes, for a short time."""
    crowd(tmp_path, processes=3, seed=seed, seconds=0.5)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2])
def test_16_processes_lose_nothing_and_see_nothing_half_done(
    seed: int, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """16 processes, for a minute: turns, appends, listings, searches, deletions, backups and everything else."""
    crowd(tmp_path, processes=16, seed=seed, seconds=scaled(60))


def crowd(folder: Path, *, processes: int, seed: int, seconds: float) -> None:
    prepare(folder, processes)
    memories = at_once(join_in, [(folder, index, seed, seconds) for index in range(processes)])
    assert [error for memory in memories for error in memory.errors] == []
    assert [torn for memory in memories for torn in memory.torn] == []
    assert sum((memory.deeds for memory in memories), Counter()).keys() >= DEEDS.keys()
    assert max(taken for memory in memories for taken in memory.longest.values()) < TIMEOUT

    verify_whole(folder / "sessions.db")
    verify_resumes(folder / "sessions.db")
    backups = [path for memory in memories for path in memory.backups]
    assert len(backups) >= processes
    for path in backups:
        verify_whole(path)
    verify_remembered(folder / "sessions.db", memories)
    verify_vacuumed(folder / "sessions.db", memories)


def verify_whole(path: Path) -> None:
    """The file is healthy, and shows one moment."""
    with SQLiteSessionRepository(path) as repository:
        assert repository.check() == []
        assert list(torn_sessions(repository)) == []
        for agent in repository.list_agents(LOGS[0]):
            first, second = (len(repository.list_messages(log, agent.agent_id)) for log in LOGS)
            assert agent.agent_id == SHARED or first - second in (0, 1)
    for talk in TALKS:
        with SQLiteSessionManager(talk, path) as manager:
            assert torn_turn(real_agent(manager)) is None


def verify_resumes(path: Path) -> None:
    """Every agent of every session resumes with all that was said."""
    with SQLiteSessionRepository(path) as repository:
        for summary in repository.list_sessions():
            with SQLiteSessionManager(summary.session_id, path) as manager:
                agents = [real_agent(manager, agent_id) for agent_id in summary.agent_ids]
                assert sum(len(agent.messages) for agent in agents) == summary.message_count


def verify_remembered(path: Path, memories: list[Memory]) -> None:
    """What returned is there, and what was deleted is not."""
    with SQLiteSessionRepository(path) as repository:
        stored = {summary.session_id for summary in repository.list_sessions()}
        created = set[str]().union(*(memory.created for memory in memories))
        deleted = set[str]().union(*(memory.deleted for memory in memories))
        # A copy or fork can be seen, and deleted, before its creator knows of it; by now all know.
        assert deleted <= created
        assert stored == (created - deleted).union(TALKS, LOGS)

        entries: dict[tuple[str, str, int], str] = {}
        for memory in memories:
            assert not entries.keys() & memory.appended.keys()
            entries |= memory.appended
        found = {
            (log, agent.agent_id, message.message_id): message.message["content"][0]["text"]
            for log in LOGS
            for agent in repository.list_agents(log)
            for message in repository.list_messages(log, agent.agent_id)
        }
        assert found == entries

        for talk in TALKS:
            said = [text for memory in memories for where, text in memory.said if where == talk]
            texts = [message.message["content"][0]["text"] for message in repository.list_messages(talk, "default")]
            assert set(said) <= set(texts)
            assert len(set(said)) == len(said)


def verify_vacuumed(path: Path, memories: list[Memory]) -> None:
    """A vacuum leaves nothing of what was redacted or deleted."""
    with SQLiteSessionRepository(path) as repository:
        repository.vacuum()
        origins = {summary.forked_from for summary in repository.list_sessions()}
        content = b"".join(Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal"))
    gone = {secret for memory in memories for secret in memory.secrets}
    gone |= {session_id for memory in memories for session_id in memory.deleted} - origins  # which forks remember
    assert {text for text in gone if text.encode() in content} == set()


def test_deleting_many_sessions_ends_while_others_create_more(tmp_path: Path) -> None:
    """Sessions begun after the call may stay; the call does not chase them forever."""
    path = tmp_path / "sessions.db"
    repository = SQLiteSessionRepository(path)
    SQLiteSessionManager("first", path, metadata={"user_id": "42"})
    ended = threading.Event()
    most = 2_000

    def begin_more(thread: int) -> int:
        begun = 0
        while begun < most and not ended.is_set():
            begun += 1
            SQLiteSessionManager(f"more {thread}.{begun}", path, metadata={"user_id": "42"}, synchronous="NORMAL")
        return begun

    with ThreadPoolExecutor(4) as executor:
        beginners = [executor.submit(begin_more, thread) for thread in range(4)]
        assert repository.delete_sessions(metadata={"user_id": "42"}) >= 1
        ended.set()
        assert max(beginner.result(PATIENCE) for beginner in beginners) < most
    with pytest.raises(SessionException, match="Session first does not exist"):
        repository.delete_session("first")
