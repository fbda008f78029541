"""The queries that README offers to analysts, each on the same small file, as they stand there."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionRepository

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"^([^\n]+):\n\n```sql\n(.*?)```", README, re.MULTILINE | re.DOTALL))


def said(role: str, *blocks: dict[str, Any], tokens: tuple[int, int] | None = None, latency: int = 0) -> dict[str, Any]:
    message: dict[str, Any] = {"role": role, "content": list(blocks)}
    if tokens is not None:
        usage = {"inputTokens": tokens[0], "outputTokens": tokens[1], "totalTokens": sum(tokens)}
        message["metadata"] = {"usage": usage, "metrics": {"latencyMs": latency}}
    return message


def call(name: str) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": "1", "name": name, "input": {"city": "Lisbon"}}}


CONVERSATIONS: dict[str, tuple[str, list[tuple[str, dict[str, Any]]]]] = {
    "trip": (
        "ada",
        [
            ("2026-03-01T10:00:00+00:00", said("user", {"text": "What is the weather?"})),
            ("2026-03-01T10:00:01+00:00", said("assistant", call("weather"), tokens=(10, 5), latency=300)),
            (
                "2026-03-01T10:00:02+00:00",
                said("user", {"toolResult": {"toolUseId": "1", "status": "success", "content": [{"text": "sunny"}]}}),
            ),
            ("2026-03-01T10:00:03+00:00", said("assistant", {"text": "Sunny."}, tokens=(20, 3), latency=200)),
        ],
    ),
    "work": (
        "bob",
        [
            ("2026-03-02T09:00:00+00:00", said("user", {"text": "Summarise this."})),
            (
                "2026-03-02T09:00:05+00:00",
                said("assistant", call("search"), call("weather"), tokens=(100, 50), latency=900),
            ),
        ],
    ),
}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("readme") / "sessions.db"
    with SQLiteSessionRepository(path) as repository:
        for session_id, (user, messages) in CONVERSATIONS.items():
            repository.create_session(Session(session_id, SessionType.AGENT))
            repository.update_session_metadata(session_id, {"user_id": user})
            repository.create_agent(session_id, SessionAgent("default", {}, {}))
            for index, (moment, message) in enumerate(messages):
                stored = SessionMessage(message, index, created_at=moment)  # type: ignore[arg-type]
                repository.create_message(session_id, "default", stored)
    with closing(sqlite3.connect(path)) as connection:
        yield connection


ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "Tokens per day": [("2026-03-01", 30, 8, 1), ("2026-03-02", 100, 50, 1)],
    "The most used tools": [("weather", 2), ("search", 1)],
    "The longest conversations": [
        ("trip", 4, "2026-03-01T10:00:00+00:00", "2026-03-01T10:00:03+00:00"),
        ("work", 2, "2026-03-02T09:00:00+00:00", "2026-03-02T09:00:05+00:00"),
    ],
    "Tokens by user, where sessions have a `user_id` in their metadata": [("bob", 150), ("ada", 38)],
    "Answers that took longest, with what was asked": [
        ("Summarise this.", 900),
        ("What is the weather?", 300),
        (None, 200),
    ],
}


@pytest.mark.parametrize("question", ANSWERS)
def test_a_query_of_the_readme_answers_its_question(connection: sqlite3.Connection, question: str) -> None:
    assert connection.execute(QUERIES[question]).fetchall() == ANSWERS[question]


def test_every_query_of_the_readme_is_tested() -> None:
    assert QUERIES.keys() == ANSWERS.keys()
