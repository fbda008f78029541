"""What is in the rows of a session, for what handles them as a whole: forks, exports, copies and checks."""

_TIMES = ("created_at", "updated_at")

# The columns of each table, but for `session_id`, and `revision`, which guards a row and is not a part of it.
COLUMNS = {
    "sessions": ("session_type", "metadata", *_TIMES, "active_at"),
    "agents": (
        "agent_id",
        *_TIMES,
        "state",
        "conversation_manager_state",
        "internal_state",
        "live_messages",
    ),
    "messages": ("agent_id", "message_id", *_TIMES, "message", "redact_message", "live_message"),
    "multi_agents": ("multi_agent_id", *_TIMES, "state"),
}

JSON = {
    "metadata",
    "state",
    "conversation_manager_state",
    "internal_state",
    "live_messages",
    "message",
    "redact_message",
    "live_message",
}

KEYS = {
    "sessions": ("session_id",),
    "agents": ("session_id", "agent_id"),
    "messages": ("session_id", "agent_id", "message_id"),
    "multi_agents": ("session_id", "multi_agent_id"),
}


def found_in(table: str) -> str:
    """Return what to select from: the rows as an index has `found` them, and as they are `stored`.

    SQLite takes a key from the index that it finds a row by. Where a damaged index leads to a row with other keys,
    the columns of `stored` are NULL, which no JSON is.
    """
    same = " AND ".join(f"stored.{key} = found.{key}" for key in KEYS[table])
    return f"{table} AS found LEFT JOIN {table} AS stored ON stored.rowid = found.rowid AND {same}"
