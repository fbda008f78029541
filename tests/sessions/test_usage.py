"""Usage is counted once, and the same in Python, in SQL and on the command line."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.transfer.copy import copy_session

from ..support.command_line import on_a_terminal, run
from ..support.dated_records import add_message, add_session, at, moment
from ..support.orchestrators import build_team
from ..support.records import Orchestrator, query


def answer(tokens: int, **usage: Any) -> Any:
    numbers = {"inputTokens": tokens - 1, "outputTokens": 1, "totalTokens": tokens, **usage}
    metadata = {"usage": numbers, "metrics": {"latencyMs": 7}}
    return {"role": "assistant", "content": [{"text": "yes"}], "metadata": metadata}


@pytest.fixture
def repository(path: Path) -> SQLiteSessionRepository:
    """Two sessions of one user, and one without: 10 and 20, 100, and 1,000 tokens."""
    repository = SQLiteSessionRepository(path)
    day = 24 * 60
    for session_id, user_id, tokens, minute in (
        ("one", "42", (10, 20), 0),
        ("two", "42", (100,), day),
        ("three", None, (1000,), 40 * day),
    ):
        add_session(repository, session_id, minute)
        if user_id is not None:
            repository.update_session_metadata(session_id, {"user_id": user_id})
        for number, count in enumerate(tokens):
            add_message(repository, session_id, minute, "what?", message_id=2 * number)
            add_message(repository, session_id, minute + 1, answer(count), message_id=2 * number + 1)
    return repository


def totals(repository: SQLiteSessionRepository, **arguments: Any) -> dict[str | None, int]:
    return {summary.key: summary.total_tokens for summary in repository.usage(**arguments)}


def total_of_view(path: Path) -> int:
    return int(query(path, "SELECT sum(total_tokens) FROM usage")[0][0])


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("session", {"three": 1000, "two": 100, "one": 30}),
        ("agent", {"ada": 1130}),
        ("day", {"2024-05-06": 30, "2024-05-07": 100, "2024-06-15": 1000}),
        ("month", {"2024-05": 130, "2024-06": 1000}),
        ("role", {"assistant": 1130, "user": 0}),
        ("user_id", {None: 1000, "42": 130}),
        ("nobody's key", {None: 1130}),
    ],
)
def test_usage_is_summed_up_by_what_was_asked_for(
    by: str, expected: dict[str | None, int], repository: SQLiteSessionRepository
) -> None:
    assert list(totals(repository, by=by).items()) == list(expected.items())


def test_a_summary_says_what_it_is_made_of(repository: SQLiteSessionRepository) -> None:
    cached = answer(50, cacheReadInputTokens=3, cacheWriteInputTokens=4)
    add_message(repository, "two", 2000, cached, message_id=2)
    (summary,) = repository.usage(by="user_id", metadata={"user_id": "42"})
    assert vars(summary) == {
        "key": "42",
        "sessions": 2,
        "messages": 7,
        "answers": 4,
        "input_tokens": 176,
        "output_tokens": 4,
        "total_tokens": 180,
        "cache_read_input_tokens": 3,
        "cache_write_input_tokens": 4,
        "latency_ms": 28,
    }


def test_usage_can_be_limited_to_metadata_and_times(repository: SQLiteSessionRepository) -> None:
    assert totals(repository, metadata={"user_id": "42"}) == {"two": 100, "one": 30}
    assert totals(repository, metadata={"user_id": "42", "app": "web"}) == {}
    assert totals(repository, after=moment(60)) == {"three": 1000, "two": 100}
    assert totals(repository, after=at(60), before=moment(10_000)) == {"two": 100}
    assert totals(repository, by="user_id", after=moment(60)) == {None: 1000, "42": 100}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"by": 5}, TypeError), ({"after": "yesterday"}, ValueError), ({"before": 5}, TypeError)],
)
def test_what_makes_no_sense_is_refused(
    arguments: dict[str, Any], error: type[Exception], repository: SQLiteSessionRepository
) -> None:
    with pytest.raises(error, match=rf"^{next(iter(arguments))}="):
        repository.usage(**arguments)


# -- forks --


def test_what_forks_copied_counts_once(repository: SQLiteSessionRepository, path: Path) -> None:
    repository.fork_session("one", "fork")
    repository.fork_session("fork", "fork of the fork", through_message=1)
    assert totals(repository) == {"three": 1000, "two": 100, "one": 30}
    assert total_of_view(path) == 1130
    add_message(repository, "fork", 90, answer(5), message_id=4)
    assert totals(repository, by="user_id") == {None: 1000, "42": 135}


@pytest.mark.every_case
@pytest.mark.parametrize("deleted", [("one",), ("fork",), ("one", "fork"), ("one", "other")], ids=" and ".join)
def test_a_copy_counts_once_when_the_original_is_deleted(
    deleted: tuple[str, ...], repository: SQLiteSessionRepository
) -> None:
    repository.fork_session("one", "fork")
    repository.fork_session("fork", "fork of the fork")
    repository.fork_session("one", "other")
    for session_id in deleted:
        repository.delete_session(session_id)
    assert sum(totals(repository).values()) == 1130


def test_what_was_rewound_counts_where_it_still_is(repository: SQLiteSessionRepository) -> None:
    repository.fork_session("one", "fork")
    repository.rewind_session("one", through_message=1)
    assert totals(repository, metadata={"user_id": "42"}) == {"two": 100, "fork": 20, "one": 10}


def test_a_fork_that_was_copied_to_another_file_counts_there(
    repository: SQLiteSessionRepository, tmp_path: Path
) -> None:
    repository.fork_session("one", "fork")
    with SQLiteSessionRepository(tmp_path / "new.db") as new:
        copy_session(repository, new, "fork")
        assert totals(new) == {"fork": 30}


# -- orchestrators --


@pytest.mark.parametrize("kind", ["graph", "swarm"])
def test_the_nodes_of_orchestrators_count_from_their_state(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("session", path) as manager:
        result = build_team(kind, manager, tmp_path)("the task")
        reported = result.accumulated_usage["totalTokens"]
        assert reported > 0
        manager.fork_session("session", "fork")
        assert totals(manager) == {"session": reported}
        assert totals(manager, by="agent") == {"team": reported}
        (summary,) = manager.usage(by="role")
        assert (summary.key, summary.answers, summary.messages) == ("assistant", 3, 0)
        manager.delete_session("session")
        assert totals(manager) == {"fork": reported}


def test_an_orchestrator_that_did_nothing_yet_has_no_usage(path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "session")
        for number, state in enumerate(({}, {"node_results": {}}, {"node_results": 5}, {"value": float("nan")})):
            repository.create_multi_agent("session", Orchestrator(str(number), state))
        assert repository.usage() == []
    assert query(path, "SELECT * FROM usage") == []


# -- numbers that are not numbers --


@pytest.mark.every_case
@pytest.mark.parametrize(
    "usage",
    [
        *('"x"', "[]", "{}", '{"inputTokens":"many","totalTokens":7}', '{"inputTokens":[5],"totalTokens":7}'),
        *('{"inputTokens":1e400,"totalTokens":7}', '{"inputTokens":null,"totalTokens":7}', '{"totalTokens":7.0}'),
        f'{{"inputTokens":{"9" * 5000},"totalTokens":7}}',
    ],
    ids=lambda usage: str(usage)[:40],
)
def test_odd_numbers_do_not_break_the_sum(usage: str, repository: SQLiteSessionRepository, path: Path) -> None:
    text = f'{{"role":"assistant","content":[],"metadata":{{"usage":{usage},"metrics":{{"latencyMs":1}}}}}}'
    repository.create_message("two", "ada", SessionMessage(answer(1), 2))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE messages SET message = ? WHERE session_id = 'two' AND message_id = 2", (text,))
    assert totals(repository)["two"] == (107 if "7" in usage else 100)


# -- the command --


def test_the_command_says_what_python_says(repository: SQLiteSessionRepository, path: Path) -> None:
    told = run("usage", "--by", "user_id", "--json", db=path).out
    assert [json.loads(line) for line in told.splitlines()] == [vars(found) for found in repository.usage(by="user_id")]
    heading, *rows, total = run("usage", "--by", "user_id", db=path).out.splitlines()
    assert heading.split() == ["user_id", "sessions", "answers", "input", "output", "total"]
    assert [row.split() for row in rows] == [
        ["(none)", "1", "1", "999", "1", "1,000"],
        ["42", "2", "3", "127", "3", "130"],
    ]
    assert total.split() == ["total", "4", "1,126", "4", "1,130"]


@pytest.mark.parametrize(
    ("since", "sessions"), [("2024-05-07", ["three", "two"]), ("2024-05-06T20:00Z", ["three", "two"]), ("9w", [])]
)
def test_the_command_takes_dates_and_ages(
    since: str, sessions: list[str], repository: SQLiteSessionRepository, path: Path
) -> None:
    told = run("usage", "--since", since, "--json", db=path).out
    assert [json.loads(line)["key"] for line in told.splitlines()] == sessions


@pytest.mark.parametrize("when", ["yesterday", "5", "2024-13-01", "", "-2h"])
def test_an_invalid_time_is_wrong_usage(when: str, repository: SQLiteSessionRepository, path: Path) -> None:
    ended = run("usage", f"--since={when}", db=path)
    assert ended.code == 2
    assert "2h or 7d" in ended.err


def test_a_terminal_shows_bars_as_long_as_the_numbers(repository: SQLiteSessionRepository, path: Path) -> None:
    code, told = on_a_terminal("--db", path, "usage", "--by", "day", columns=80, NO_COLOR="1")
    assert code == 0
    assert [line.count("█") for line in told.splitlines()] == [0, 1, 3, 27, 0]
    assert "█" not in on_a_terminal("--db", path, "usage", columns=40, NO_COLOR="1")[1]
