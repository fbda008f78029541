"""Analytics: the file is a database, and plain SQL answers questions about the conversations in it.

Run it with `python examples/06_analytics.py`. It works in a temporary folder and needs neither a network nor a model.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionRepository

QUESTIONS = {
    "The view `transcript` has a row for every message": """
        SELECT session_id, message_id AS id, role, coalesce(text, tool_results) AS text, tools_called
        FROM transcript
        WHERE session_id = 'lisbon'
        ORDER BY message_id
    """,
    "The view `usage` has a row for every session, agent and day (UTC)": """
        SELECT day, count(DISTINCT session_id) AS sessions, sum(input_tokens) AS input, sum(output_tokens) AS output
        FROM usage
        GROUP BY day
        ORDER BY day
    """,
    "Tokens by user, and what they cost at 3 and 15 dollars per million": """
        SELECT user.value AS user, sum(total_tokens) AS tokens,
               round(sum(input_tokens * 3.00 + output_tokens * 15.00) / 1e6, 4) AS dollars
        FROM usage JOIN session_metadata AS user USING (session_id)
        WHERE user.key = 'user_id'
        GROUP BY user.value
        ORDER BY tokens DESC
    """,
    "The most used tools: whatever the views leave out is in the messages, as JSON": """
        SELECT json_extract(block.value, '$.toolUse.name') AS tool, count(*) AS calls
        FROM messages, json_each(messages.message, '$.content') AS block
        WHERE tool IS NOT NULL
        GROUP BY tool
        ORDER BY calls DESC, tool
    """,
    "The slowest answers, each with its question": """
        SELECT asked.text AS question, json_extract(answer.message, '$.metadata.metrics.latencyMs') AS latency_ms
        FROM messages AS answer
        JOIN transcript AS asked USING (session_id, agent_id)
        WHERE asked.message_id = answer.message_id - 1 AND asked.text IS NOT NULL AND latency_ms IS NOT NULL
        ORDER BY latency_ms DESC
        LIMIT 3
    """,
}


def main() -> None:
    """Store some conversations, and ask about them."""
    with tempfile.TemporaryDirectory() as folder:
        db_path = Path(folder, "sessions.db")
        store_conversations(db_path)
        # Read-only, a query disturbs no agent and cannot change anything by mistake.
        with closing(sqlite3.connect(f"{db_path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            for question, query in QUESTIONS.items():
                print(f"\n{question}:")
                show(connection.execute(query))


def show(cursor: sqlite3.Cursor) -> None:
    """Print the answer to a query as a table."""
    rows = [tuple(name for name, *_ in cursor.description), *cursor.fetchall()]
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ", "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def store_conversations(db_path: Path) -> None:
    """Store what agents would have stored, a day at a time."""
    with SQLiteSessionRepository(db_path) as repository:
        for session_id, user_id, day, messages in (
            ("lisbon", "ada", "2026-03-02", LISBON),
            ("ferry", "bob", "2026-03-02", FERRY),
            ("lisbon-again", "ada", "2026-03-04", LISBON),
        ):
            repository.create_session(Session(session_id, SessionType.AGENT))
            repository.update_session_metadata(session_id, {"user_id": user_id})
            repository.create_agent(session_id, SessionAgent("default", {}, {}))
            for message_id, message in enumerate(messages):
                created_at = f"{day}T09:00:{message_id:02}+00:00"
                repository.create_message(
                    session_id, "default", SessionMessage(message, message_id, created_at=created_at)
                )


def said(role: str, block: dict[str, Any], tokens: tuple[int, int] = (0, 0), latency: int = 0) -> Any:
    """Return a message, with the usage that newer versions of Strands keep in the metadata of an answer."""
    message: dict[str, Any] = {"role": role, "content": [block]}
    if role == "assistant":
        usage = {"inputTokens": tokens[0], "outputTokens": tokens[1], "totalTokens": sum(tokens)}
        message["metadata"] = {"usage": usage, "metrics": {"latencyMs": latency}}
    return message


LISBON = [
    said("user", {"text": "Which flights are there to Lisbon?"}),
    said("assistant", {"toolUse": {"toolUseId": "1", "name": "search_flights", "input": {}}}, (620, 25), 900),
    said(
        "user",
        {"toolResult": {"toolUseId": "1", "status": "success", "content": [{"text": "TP 543 at 7:05"}]}},
    ),
    said("assistant", {"text": "TP 543 leaves at 7:05."}, (695, 8), 560),
    said("user", {"text": "And the weather?"}),
    said("assistant", {"text": "22 degrees and dry, as a rule."}, (710, 9), 580),
]
FERRY = [
    said("user", {"text": "Is there a ferry from Kiel to Oslo?"}),
    said("assistant", {"text": "Yes, every day at 14:00. It takes 20 hours."}, (630, 14), 680),
]


if __name__ == "__main__":
    main()
