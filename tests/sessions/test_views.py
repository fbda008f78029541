"""The views `transcript` and `usage`, as a reader with SQL and no Python sees them."""

import datetime
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands import Agent

from strands_sqlite_session_manager import SQLiteSessionManager
from strands_sqlite_session_manager.sessions.text import parts

from ..support.command_line import fill
from ..support.conversations import CONFESSION, CONVERSATIONS, SECRET, build
from ..support.fresh_processes import open_session
from ..support.scripted_model import ScriptedModel, tool_use


def query(path: Path, sql: str, *parameters: Any) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, parameters).fetchall()


def keeps_usage() -> bool:
    """Return whether this version of Strands puts usage into the metadata of messages."""
    agent = Agent(model=ScriptedModel(), callback_handler=None)
    agent("hello")
    return "usage" in agent.messages[-1].get("metadata", {})


needs_usage = pytest.mark.skipif(not keeps_usage(), reason="this version of Strands keeps no usage with its messages")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    fill(path)
    return path


def said(path: Path, *contents: str) -> None:
    """Put the JSON of messages into a session of a file, by hand."""
    with SQLiteSessionManager("odd", path) as manager:
        build(manager)
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, content in enumerate(contents):
            connection.execute(
                "INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message)"
                " VALUES ('odd', 'default', ?, '2024', '2024', ?)",
                (number, content),
            )


# -- transcript --


def test_a_transcript_has_a_row_for_every_message(db: Path) -> None:
    rows = query(
        db,
        "SELECT message_id, role, text, tools_called, tool_results, redacted FROM transcript"
        " WHERE session_id = 'ship' AND agent_id = 'default' ORDER BY message_id",
    )
    assert rows == [
        (0, "user", "set the sails", None, None, 0),
        (1, "assistant", "aye", "shout", None, 0),
        (2, "user", None, None, "SAIL", 0),
        (3, "assistant", "we sail", None, None, 0),
        (4, "user", "look", None, None, 0),
        (5, "assistant", "nice", None, None, 0),
        (6, "user", "[redacted]", None, None, 1),
        (7, "assistant", "blocked", None, None, 0),
    ]
    assert query(db, "SELECT count(*) FROM transcript") == query(db, "SELECT count(*) FROM messages")
    times = "SELECT session_id, agent_id, message_id, created_at FROM {} ORDER BY 1, 2, 3"
    assert query(db, times.format("transcript")) == query(db, times.format("messages"))


def test_several_texts_and_tools_are_one_row(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("session", path) as manager:
        calls = [tool_use("shout", "t1", text="one"), tool_use("shout", "t2", text="two")]
        build(manager, [{"text": "first"}, {"text": "second"}, *calls, tool_use("fail", "t3", reason="why not")])("go")
    (asked, answered, got, *_) = query(
        path, "SELECT text, tools_called, tool_results FROM transcript ORDER BY message_id"
    )
    assert asked == ("go", None, None)
    assert answered == ("first\nsecond", "shout, shout, fail", None)
    assert sorted(got[2].splitlines())[-2:] == ["ONE", "TWO"]
    assert "why not" in got[2]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_transcript_says_the_same_as_the_command_line(name: str, tmp_path: Path) -> None:
    CONVERSATIONS[name].play(open_session("sqlite", "session", tmp_path))
    rows = query(tmp_path / "sessions.db", "SELECT message_id, text FROM transcript ORDER BY message_id")
    stored = query(
        tmp_path / "sessions.db",
        "SELECT message_id, coalesce(redact_message, message) FROM messages ORDER BY message_id",
    )
    expected = []
    for message_id, text in stored:
        texts = [part.text for part in parts(json.loads(text)) if part.kind == "text"]
        expected.append((message_id, "\n".join(texts) if texts else None))
    assert [(number, text and text.partition("\0")[0]) for number, text in rows] == [
        (number, text and text.partition("\0")[0]) for number, text in expected
    ]


@pytest.mark.parametrize("name", ["redacted user content", "a redacted tool result"])
def test_what_was_redacted_is_in_no_view(name: str, tmp_path: Path) -> None:
    CONVERSATIONS[name].play(open_session("sqlite", "session", tmp_path))
    path = tmp_path / "sessions.db"
    assert SECRET in CONFESSION
    assert SECRET not in str(query(path, "SELECT * FROM transcript"))
    assert query(path, "SELECT count(*) FROM transcript WHERE redacted") == [(1,)]


FINE = '{"role":"user","content":[{"text":"fine"}]}'


@pytest.mark.parametrize(
    "odd",
    [
        *('{"role":"user","content":[{"text":"x","n":NaN}]}', '{"role":"user","content":[{"text":"x","n":-Infinity}]}'),
        *(
            "",
            "{",
            "null",
            "5",
            '"text"',
            "[]",
            "[[]]",
            "{}",
            "no JSON",
            "\x00",
            '{"content":{}}',
            '{"content":"text"}',
        ),
        *('{"role":5,"content":[5,null,"text",[],{"text":null},{"text":{}},{"text":[1]}]}',),
        '{"content":["{","",{"toolUse":"x"},{"toolUse":{"name":{}}},{"toolResult":"x"},{"toolResult":{"content":"x"}}]}',
        '{"content":[{"toolResult":{"content":["x",5,null,{"json":"x"},{"json":[NULL]}]}}]}',
        '{"content":[{"toolResult":{"content":["x",5,null,{"json":"x"},{"json":[null]},{"text":{}}]}}]}',
        '{"role":"user","content":[{"text":"lone \\udcff"}]}',
        '{"role":"user","content":[{"toolUse":{"name":"\\ud800"}},{"toolResult":{"content":[{"text":"\\udfff"}]}}]}',
        '{"metadata":{"usage":[]}}',
        '{"metadata":{"usage":{"inputTokens":"many","outputTokens":[],"totalTokens":{}}}}',
        '{"metadata":{"usage":{"inputTokens":1e400},"metrics":5}}',
        '{"metadata":"x"}',
        "[" * 3000 + "]" * 3000,
    ],
    ids=lambda odd: ascii(odd[:60]),
)
def test_an_odd_message_does_not_break_the_views(odd: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    said(path, FINE, odd, FINE)
    rows = query(path, "SELECT * FROM transcript ORDER BY message_id")
    assert [row[2] for row in rows] == [0, 1, 2]
    assert [row[5] for row in rows][::2] == ["fine", "fine"]
    assert query(path, "SELECT count(*), sum(input_tokens), sum(latency_ms) FROM usage")


def test_infinite_token_counts_do_not_break_the_sum(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    many = '{"role":"assistant","content":[],"metadata":{"usage":{"inputTokens":9223372036854775807}}}'
    said(path, many, many)
    ((tokens,),) = query(path, "SELECT input_tokens FROM usage")
    assert tokens == 2**63 - 1  # as many as there can be


def test_a_message_that_is_bytes_does_not_break_the_views(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    said(path, FINE, FINE)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE messages SET message = CAST(message AS BLOB) WHERE message_id = 0")
        connection.execute("UPDATE messages SET message = x'00ff' WHERE message_id = 1")
    assert len(query(path, "SELECT * FROM transcript")) == 2
    assert query(path, "SELECT * FROM usage") == []


@pytest.mark.parametrize("view", ["transcript", "usage"])
@pytest.mark.parametrize(
    "statement", ["DELETE FROM {}", "UPDATE {} SET session_id = 'x'", "INSERT INTO {} (session_id) VALUES ('x')"]
)
def test_views_are_read_only(statement: str, view: str, db: Path) -> None:
    refusal = pytest.raises(sqlite3.OperationalError, match="because it is a view")
    with closing(sqlite3.connect(db)) as connection, refusal:
        connection.execute(statement.format(view))


def test_the_views_can_be_read_through_a_connection_that_cannot_write(db: Path) -> None:
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as connection:
        assert len(connection.execute("SELECT * FROM transcript").fetchall()) == 12
        connection.execute("SELECT * FROM usage").fetchall()


# -- usage --


@pytest.fixture
def spent(tmp_path: Path) -> tuple[Path, dict[tuple[str, str], list[dict[str, int]]]]:
    """A file in which agents have had turns, and the usage that their models reported."""
    path = tmp_path / "sessions.db"
    reported: dict[tuple[str, str], list[dict[str, int]]] = {}
    for session_id, agent_id, turns in (("one", "ada", 3), ("one", "bob", 1), ("two", "ada", 2)):
        with SQLiteSessionManager(session_id, path) as manager:
            agent = build(manager, [tool_use("shout", "t1", text="hi")], agent_id=agent_id)
            for number in range(turns):
                agent(f"turn {number}")
        reported[session_id, agent_id] = [
            {"inputTokens": 10 + call, "outputTokens": 5, "totalTokens": 15 + call}
            for call in range(1, agent.model.calls + 1)
        ]
    return path, reported


@needs_usage
def test_usage_is_what_the_models_reported(spent: Any) -> None:
    path, reported = spent
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    rows = query(
        path,
        "SELECT session_id, agent_id, sum(answers), sum(input_tokens), sum(output_tokens), sum(total_tokens),"
        " sum(latency_ms), min(day), max(day) FROM usage GROUP BY session_id, agent_id",
    )
    assert {row[:2]: row[2:7] for row in rows} == {
        keys: (
            len(calls),
            *(sum(call[name] for call in calls) for name in ("inputTokens", "outputTokens", "totalTokens")),
            7 * len(calls),
        )
        for keys, calls in reported.items()
    }
    assert all(row[7] <= row[8] <= today for row in rows)


@needs_usage
def test_usage_can_be_grouped_by_day(spent: Any) -> None:
    path, reported = spent
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE messages SET created_at = '2024-05-06T23:59:59+00:00'")
        connection.execute(
            "UPDATE messages SET created_at = '2024-05-07T00:00:00+00:00' WHERE agent_id = 'ada' AND message_id >= 4"
        )
    rows = query(path, "SELECT day, answers, output_tokens FROM usage WHERE session_id = 'one' AND agent_id = 'ada'")
    assert sorted(rows) == [("2024-05-06", 2, 10), ("2024-05-07", 2, 10)]
    assert len(reported["one", "ada"]) == 4


def test_messages_without_usage_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    said(path, FINE, FINE)
    assert query(path, "SELECT * FROM usage") == []


def test_usage_includes_cached_tokens_where_they_are_known(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    metadata = {"usage": {"inputTokens": 1, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 4}}
    said(path, FINE, json.dumps({"role": "assistant", "content": [], "metadata": metadata}))
    sums = "answers, input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens, latency_ms"
    assert query(path, f"SELECT {sums} FROM usage") == [(1, 1, 0, 3, 4, 0)]
