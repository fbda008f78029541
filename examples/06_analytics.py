"""Analytics: the file of conversations is a database, and plain SQL answers questions about it.

Run it with `python examples/06_analytics.py`. It works in a temporary folder and needs neither a network nor a model:
it stores some conversations as agents would have, with their times and tokens, and then asks with `sqlite3` alone.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from strands.types.content import ContentBlock, Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionRepository

# A week of a travel agency: whose conversation, when it began, and each question with the tools used and the answer.
CONVERSATIONS: dict[str, tuple[str, str, list[tuple[str, list[str], str]]]] = {
    "ada-lisbon": (
        "ada",
        "2026-03-02 09:12",
        [
            ("I want to go to Lisbon in May.", [], "A fine time for it: warm, and not crowded yet."),
            ("Which flights are there?", ["search_flights"], "TP 543 leaves at 7:05, LH 1166 at 9:40."),
            ("And the weather?", ["weather"], "22 degrees and dry, as a rule."),
            ("Book the early flight.", ["book_flight"], "Done. Your reference is QX4711."),
        ],
    ),
    "bob-ferry": (
        "bob",
        "2026-03-02 14:30",
        [("Is there a ferry from Kiel to Oslo?", ["search_ferries"], "Yes, every day at 14:00. It takes 20 hours.")],
    ),
    "eve-japan": (
        "eve",
        "2026-03-03 08:05",
        [
            (
                "Plan two weeks in Japan for me.",
                ["search_flights", "weather", "search_hotels"],
                "Days 1 to 4: Tokyo. Ueno Park, the fish market, a day in Nikko. Days 5 to 7: Kanazawa, its gardens"
                " and the old quarter. Days 8 to 11: Kyoto, and from there Nara and Osaka. Days 12 to 14: Hiroshima and"
                " Miyajima. Take the train between them, and book the hotel in Kyoto first: it is the season.",
            ),
            ("Which hotel in Kyoto?", ["search_hotels"], "A small one by the river: 12 rooms, 140 euros a night."),
        ],
    ),
    "ada-change": (
        "ada",
        "2026-03-04 18:40",
        [
            ("Can I still change QX4711?", ["find_booking"], "Yes, until the day before, for 40 euros."),
            ("Then move it by a day.", ["search_flights", "book_flight"], "Done. You fly on 13 May at 7:05."),
        ],
    ),
    "bob-weather": ("bob", "2026-03-05 07:55", [("Will it rain in Kiel?", ["weather"], "In the afternoon, a little.")]),
}
PRICE_PER_MILLION = {"input": 3.00, "output": 15.00}  # dollars; what your provider asks for


def the_file(connection: sqlite3.Connection) -> None:
    """The view `transcript` has a row for every message, in plain columns."""
    show(
        connection,
        """
        SELECT time(created_at) AS time, role, coalesce(text, tool_results) AS text, tools_called
        FROM transcript
        WHERE session_id = 'ada-lisbon' AND message_id < 6
        ORDER BY message_id
        """,
    )


def tokens_per_day(connection: sqlite3.Connection) -> None:
    """Tokens per day: the view `usage` has a row for every session, agent and day (UTC)."""
    rows = show(
        connection,
        """
        SELECT day, count(DISTINCT session_id) AS sessions, sum(answers) AS answers,
               sum(input_tokens) AS input, sum(output_tokens) AS output
        FROM usage
        GROUP BY day
        ORDER BY day
        """,
    )
    assert [row[0][-2:] for row in rows] == ["02", "03", "04", "05"]


def tokens_per_user(connection: sqlite3.Connection) -> None:
    """Tokens per user, and what they cost: the user is in the metadata of the session."""
    rows = show(
        connection,
        """
        SELECT json_extract(metadata, '$.user_id') AS user, sum(total_tokens) AS tokens,
               round(sum(input_tokens * :input + output_tokens * :output) / 1e6, 4) AS dollars
        FROM usage JOIN sessions USING (session_id)
        GROUP BY user
        ORDER BY tokens DESC
        """,
        PRICE_PER_MILLION,
    )
    assert {user for user, _, _ in rows} == {"ada", "bob", "eve"}


def most_used_tools(connection: sqlite3.Connection) -> None:
    """The most used tools: what is in no view is in the messages, as JSON."""
    rows = show(
        connection,
        """
        SELECT json_extract(block.value, '$.toolUse.name') AS tool, count(*) AS calls,
               count(DISTINCT session_id) AS sessions
        FROM messages, json_each(messages.message, '$.content') AS block
        WHERE tool IS NOT NULL
        GROUP BY tool
        ORDER BY calls DESC, tool
        """,
    )
    assert rows[0] == ("search_flights", 3, 3)


def longest_conversations(connection: sqlite3.Connection) -> None:
    """The longest conversations, and how long people stayed."""
    rows = show(
        connection,
        """
        SELECT session_id, count(*) AS messages, sum(role = 'user' AND text IS NOT NULL) AS questions,
               round((julianday(max(created_at)) - julianday(min(created_at))) * 24 * 60, 1) AS minutes
        FROM transcript
        GROUP BY session_id
        ORDER BY messages DESC
        LIMIT 3
        """,
    )
    assert rows[0][0] == "ada-lisbon"


def slowest_answers(connection: sqlite3.Connection) -> None:
    """The slowest answers: how long somebody waited, with all that the model was asked for on the way."""
    rows = show(
        connection,
        """
        SELECT round(sum(latency_ms) / 1000.0, 2) AS seconds, count(latency_ms) AS model_calls,
               max(question) AS question
        FROM (
            SELECT session_id, agent_id, CASE role WHEN 'user' THEN text END AS question,
                   json_extract(message, '$.metadata.metrics.latencyMs') AS latency_ms,
                   sum(role = 'user' AND text IS NOT NULL) OVER (
                       PARTITION BY session_id, agent_id
                       ORDER BY message_id
                   ) AS turn
            FROM transcript JOIN messages USING (session_id, agent_id, message_id)
        )
        GROUP BY session_id, agent_id, turn
        ORDER BY seconds DESC
        LIMIT 3
        """,
    )
    assert rows[0][1:] == (2, "Plan two weeks in Japan for me.")


def read_only(connection: sqlite3.Connection) -> None:
    """Opened read-only, a query disturbs no agent, and cannot change anything by mistake."""
    try:
        connection.execute("DELETE FROM messages")
    except sqlite3.OperationalError as error:
        print(f"   DELETE FROM messages: {error}")
    else:
        raise AssertionError("a connection that is read-only has deleted messages")


# -- asking --


def open_read_only(db_path: Path) -> sqlite3.Connection:
    """Open the file with Python's own `sqlite3`, as any other tool would."""
    return sqlite3.connect(f"{db_path.resolve().as_uri()}?mode=ro", uri=True)


def show(connection: sqlite3.Connection, query: str, parameters: dict[str, float] | None = None) -> list[Any]:
    """Print what a query answers as a table, and return it."""
    cursor = connection.execute(query, parameters or {})
    names = [name for name, *_ in cursor.description]
    rows = cursor.fetchall()
    columns = []
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        texts = [name, *("" if value is None else str(value) for value in values)]
        aligned = str.ljust if any(isinstance(value, str) for value in values) else str.rjust
        columns.append([aligned(text, max(map(len, texts))) for text in texts])
    for line in zip(*columns, strict=True):
        print("  ", "  ".join(line).rstrip())
    return rows


# -- what would come from agents --


def store_conversations(db_path: Path) -> None:
    """Store the conversations as agents would have; only their own times could not be of last week."""
    with SQLiteSessionRepository(db_path) as repository:
        for session_id, (user, began, turns) in CONVERSATIONS.items():
            repository.create_session(Session(session_id, SessionType.AGENT))
            repository.update_session_metadata(session_id, {"user_id": user})  # a manager: metadata={"user_id": user}
            repository.create_agent(session_id, SessionAgent("default", {}, {}))
            moment = datetime.fromisoformat(began).replace(tzinfo=timezone.utc)
            for message_id, (seconds, message) in enumerate(messages_of(turns)):
                moment += timedelta(seconds=seconds)
                stored = SessionMessage(message, message_id, created_at=moment.isoformat())
                repository.create_message(session_id, "default", stored)


def messages_of(turns: list[tuple[str, list[str], str]]) -> Iterator[tuple[float, Message]]:
    """Yield the messages of a conversation, each with the seconds that it took."""
    context = 600  # tokens of the system prompt and the tools
    for question, tools, answer in turns:
        context += len(question) // 4
        yield 45, {"role": "user", "content": [{"text": question}]}
        if tools:
            calls: list[ContentBlock] = [{"toolUse": {"toolUseId": tool, "name": tool, "input": {}}} for tool in tools]
            yield by_the_model(calls, context, output=25 * len(tools))
            results: list[ContentBlock] = [
                {"toolResult": {"toolUseId": tool, "status": "success", "content": [{"text": f"found by {tool}"}]}}
                for tool in tools
            ]
            yield 0.2, {"role": "user", "content": results}
            context += 75 * len(tools)
        yield by_the_model([{"text": answer}], context, output=len(answer) // 4)
        context += len(answer) // 4


def by_the_model(content: list[ContentBlock], context: int, output: int) -> tuple[float, Message]:
    """Return what a model said, with the usage that newer versions of Strands keep in the message's metadata."""
    latency = 400 + 20 * output
    message: Message = {"role": "assistant", "content": content}
    message["metadata"] = {  # type: ignore[typeddict-unknown-key, unused-ignore]  # an older Strands does not know it
        "usage": {"inputTokens": context, "outputTokens": output, "totalTokens": context + output},
        "metrics": {"latencyMs": latency},
    }
    return latency / 1000, message


def main() -> None:
    """Store the conversations, and run the sections one after the other."""
    sections = (
        the_file,
        tokens_per_day,
        tokens_per_user,
        most_used_tools,
        longest_conversations,
        slowest_answers,
        read_only,
    )
    with tempfile.TemporaryDirectory() as folder:
        db_path = Path(folder, "sessions.db")
        store_conversations(db_path)
        with closing(open_read_only(db_path)) as connection:
            for number, section in enumerate(sections, start=1):
                print(f"\n{number}. {section.__doc__}")
                section(connection)
    # Other tools read the same file. None of them is needed here.
    print("\nIn the browser, with charts (pip install datasette):  datasette sessions.db")
    print("As a data frame (pip install pandas):                 pandas.read_sql('SELECT * FROM usage', connection)")


if __name__ == "__main__":
    main()
