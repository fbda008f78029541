"""When something last happened in each session, kept in order at almost no cost to appending.

`sessions.active_at` is brought up to date by triggers: at once for all that happens once a turn or less often,
and once every `SWEEP` messages for the messages since. What the last sweep has not seen is among the last
`RECENT` rows of `messages`, which a listing reads as well.

The triggers are in every file that there is: `SWEEP` and what they are made of change only with a new migration.
"""

SWEEP = 256
# Twice as many: when VACUUM numbers the rows anew, the next sweep can be that much further away.
RECENT = 2 * SWEEP

# When something last happened in one session of `sessions`, exactly.
ACTIVE_AT = """max(active_at, coalesce(
    (SELECT max(max(created_at, updated_at)) FROM messages WHERE session_id = sessions.session_id), ''
))"""

RECENT_ACTIVITY = f"""
SELECT session_id, max(max(created_at, updated_at)) AS active_at
FROM messages NOT INDEXED
WHERE rowid > (SELECT max(rowid) FROM messages) - {RECENT}
GROUP BY session_id
"""

_TOUCH = """
CREATE TRIGGER {table}_{event}_activity AFTER {event} ON {table} BEGIN
    UPDATE sessions SET active_at = new.updated_at
    WHERE session_id = new.session_id AND active_at < new.updated_at;
END
"""

ACTIVITY = (
    "ALTER TABLE sessions ADD COLUMN active_at TEXT NOT NULL DEFAULT ''",
    """
    UPDATE sessions SET active_at = max(
        updated_at,
        coalesce((SELECT max(updated_at) FROM agents WHERE session_id = sessions.session_id), ''),
        coalesce((SELECT max(updated_at) FROM multi_agents WHERE session_id = sessions.session_id), ''),
        coalesce(
            (SELECT max(max(created_at, updated_at)) FROM messages WHERE session_id = sessions.session_id), ''
        )
    )
    """,
    "CREATE INDEX sessions_by_activity ON sessions (active_at, session_id)",
    *(
        _TOUCH.format(table=table, event=event)
        for table, event in (
            ("sessions", "INSERT"),
            ("agents", "INSERT"),
            ("agents", "UPDATE"),
            ("multi_agents", "INSERT"),
            ("multi_agents", "UPDATE"),
        )
    ),
    _TOUCH.format(table="messages", event="UPDATE").replace("AFTER UPDATE ON", "AFTER UPDATE OF updated_at ON"),
    f"""
    CREATE TRIGGER messages_sweep AFTER INSERT ON messages WHEN new.rowid % {SWEEP} = 0 BEGIN
        UPDATE sessions SET active_at = recent.active_at
        FROM ({RECENT_ACTIVITY}) AS recent
        WHERE sessions.session_id = recent.session_id AND sessions.active_at < recent.active_at;
    END
    """,
)
