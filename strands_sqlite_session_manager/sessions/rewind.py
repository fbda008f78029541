"""Rewinding a session: what came after a message is deleted, as if it had never been said."""

import sqlite3

from ..context.checkpoints import form_at, read_checkpoint, write_checkpoint
from ..database.database import Database
from ..database.identifiers import validate_id, validate_message_id
from ..database.values import timestamp
from .fork import agent_named

_THIS = "session_id = ? AND agent_id = ?"


def rewind_session(database: Database, session_id: str, through_message: int, agent_id: str | None = None) -> int:
    """Take an agent of a session back to a message; see `SQLiteSessionRepository.rewind_session`.

    Returns:
        How many messages were deleted.
    """
    validate_id(session_id, "session")
    if agent_id is not None:
        validate_id(agent_id, "agent")
    validate_message_id(through_message)

    def rewind(connection: sqlite3.Connection) -> int:
        keys = (session_id, agent_named(connection, session_id, agent_id))
        checkpoint = read_checkpoint(connection, *keys, through_message)
        edited, parameters = form_at(through_message)
        connection.execute(
            f"UPDATE messages SET edited_message = {edited} WHERE {_THIS} AND message_id IN"
            f" (SELECT message_id FROM message_versions WHERE {_THIS} AND before_message_id > ?)",
            (*parameters, *keys, *keys, through_message),
        )
        write_checkpoint(connection, *keys, checkpoint)
        connection.execute(
            f"UPDATE agents SET updated_at = ?, revision = random() >> 2 WHERE {_THIS}", (timestamp(), *keys)
        )
        deleted = connection.execute(f"DELETE FROM messages WHERE {_THIS} AND message_id > ?", (*keys, through_message))
        # After the updates, whose triggers have just stored the replaced values as versions.
        for table in ("agent_versions", "message_versions"):
            connection.execute(f"DELETE FROM {table} WHERE {_THIS} AND before_message_id > ?", (*keys, through_message))
        return deleted.rowcount

    deleted = database.transaction(rewind)
    if deleted:
        database.empty_wal()
    return deleted
