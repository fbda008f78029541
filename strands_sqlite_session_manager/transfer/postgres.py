"""The PostgreSQL store of `strands-postgresql-session-manager`, opened as a whole."""

import logging
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from sqlmodel import Session, SQLModel, create_engine, select
from strands.types.session import Session as StrandsSession
from strands.types.session import SessionAgent, SessionMessage
from strands_postgresql_session_manager import PostgresSessionManager
from strands_postgresql_session_manager.models import AgentDB, MessageDB, MultiAgentDB, SessionDB


class PostgresSessionRepository(PostgresSessionManager):  # type: ignore[misc]
    """A database of `PostgresSessionManager`; it creates no session, but the tables if there are none."""

    def __init__(self, url: str) -> None:
        """Connect to a database.

        Args:
            url: As SQLAlchemy takes it: `postgresql://user:password@host/database`.
        """
        # Errors are not to repeat what was said.
        self.engine = create_engine(url.replace("postgres://", "postgresql://", 1), hide_parameters=True)
        self.SessionModel, self.AgentModel, self.MessageModel = SessionDB, AgentDB, MessageDB
        self.MultiAgentModel = MultiAgentDB
        self.logger = logging.getLogger(__name__)
        self.logger.disabled = True  # it would repeat what was said
        tables = [model.__table__ for model in (SessionDB, AgentDB, MessageDB, MultiAgentDB)]
        SQLModel.metadata.create_all(self.engine, tables=tables)

    def list_session_ids(self) -> list[str]:
        """Return the ids of all sessions."""
        with Session(self.engine) as session:
            return list(session.exec(select(SessionDB.session_id).order_by(SessionDB.session_id)))

    def list_multi_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators."""
        with Session(self.engine) as session:
            found = select(MultiAgentDB.multi_agent_id).where(MultiAgentDB.session_id == session_id)
            return list(session.exec(found))

    def create_session(self, session: StrandsSession, **kwargs: Any) -> StrandsSession:
        """Store a new session."""
        super().create_session(_in_utc(session), **kwargs)
        return session

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store a new agent."""
        super().create_agent(session_id, _in_utc(session_agent), **kwargs)

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Store a new message."""
        super().create_message(session_id, agent_id, _in_utc(session_message), **kwargs)


def _in_utc(record: Any) -> Any:
    """Return a record with its times in UTC: the tables have no place for another offset."""
    times = {
        name: datetime.fromisoformat(getattr(record, name)).astimezone(timezone.utc).isoformat()
        for name in ("created_at", "updated_at")
    }
    return replace(record, **times)
