"""Any number of processes and threads write to one file, and every message arrives, in order and without an error."""

import json
import sqlite3
from pathlib import Path

import pytest

from ..support.concurrent_writers import THREADS, names, write_many
from ..support.fresh_processes import at_once


@pytest.mark.parametrize(("processes", "messages"), [(4, 60), pytest.param(8, 250, marks=pytest.mark.long)])
def test_what_many_processes_and_threads_write_arrives_complete_and_in_order(
    processes: int, messages: int, tmp_path: Path
) -> None:
    at_once(write_many, [(tmp_path, process, messages) for process in range(processes)])

    connection = sqlite3.connect(tmp_path / "sessions.db")
    writers = [names(process, thread) for process in range(processes) for thread in range(THREADS)]
    assert connection.execute("SELECT count(*) FROM agents").fetchone() == (len(writers),)
    for writer in writers:
        rows = connection.execute(
            "SELECT message_id, message FROM messages WHERE session_id = ? AND agent_id = ? ORDER BY message_id", writer
        ).fetchall()
        expected = [(number, [{"text": f"{', '.join(writer)}: {number}"}]) for number in range(messages)]
        assert [(message_id, json.loads(message)["content"]) for message_id, message in rows] == expected
        (state,) = connection.execute(
            "SELECT state FROM agents WHERE session_id = ? AND agent_id = ?", writer
        ).fetchone()
        assert json.loads(state) == {"written": (messages - 1) // 50 * 50}
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
