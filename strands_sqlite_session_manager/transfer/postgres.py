"""The PostgreSQL store of `strands-postgresql-session-manager`, as a repository."""

import logging
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from sqlmodel import Session, SQLModel, create_engine, select
from strands.types.session import Session as StrandsSession
from strands.types.session import SessionAgent, SessionMessage
from strands_postgresql_session_manager import PostgresSessionManager
from strands_postgresql_session_manager.models import AgentDB, MessageDB, MultiAgentDB, SessionDB

from .. import errors
from ..context.strands_private import manager_without_session
from .stores import StoreRepository


class PostgresSessionRepository(StoreRepository):
    """All sessions in a database of `PostgresSessionManager`.

    It creates the tables if they do not exist, but no session.
    """

    _use_instead = "PostgresSessionManager(session_id, engine)"

    def __init__(self, url: str) -> None:
        """Connect to a database.

        Args:
            url: A SQLAlchemy URL: `postgresql://user:password@host/database`.
        """
        # Neither errors nor the manager's log may repeat what was said.
        self.engine = create_engine(url.replace("postgres://", "postgresql://", 1), hide_parameters=True)
        logger = logging.getLogger(__name__)
        logger.disabled = True
        tables = [model.__table__ for model in (SessionDB, AgentDB, MessageDB, MultiAgentDB)]
        SQLModel.metadata.create_all(self.engine, tables=tables)
        super().__init__(
            manager_without_session(
                PostgresSessionManager,
                engine=self.engine,
                SessionModel=SessionDB,
                AgentModel=AgentDB,
                MessageModel=MessageDB,
                MultiAgentModel=MultiAgentDB,
                logger=logger,
            )
        )

    def list_session_ids(self) -> list[str]:
        """Return the ids of all sessions."""
        return self._ids(select(SessionDB.session_id).order_by(SessionDB.session_id))

    def list_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's agents."""
        found = select(AgentDB.agent_id).where(AgentDB.session_id == session_id)
        return self._ids(found.order_by(AgentDB.created_at, AgentDB.agent_id))

    def list_multi_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators."""
        return self._ids(select(MultiAgentDB.multi_agent_id).where(MultiAgentDB.session_id == session_id))

    def _ids(self, query: Any) -> list[str]:
        with Session(self.engine) as session:
            return list(session.exec(query))

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete a session with everything in it.

        Raises:
            SessionNotFoundException: If there is no such session.
        """
        if not self._manager.delete_session(session_id):
            raise errors.SessionNotFoundException(f"Session {session_id} does not exist")

    def create_session(self, session: StrandsSession, **kwargs: Any) -> StrandsSession:
        """Store a new session."""
        super().create_session(_in_utc(session), **kwargs)
        return session

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store a new agent of a session."""
        super().create_agent(session_id, _in_utc(session_agent), **kwargs)

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Store a new message of an agent."""
        super().create_message(session_id, agent_id, _in_utc(session_message), **kwargs)


def _in_utc(record: Any) -> Any:
    """Return a record with its times in UTC: the tables cannot store an offset."""
    times = {
        name: datetime.fromisoformat(getattr(record, name)).astimezone(timezone.utc).isoformat()
        for name in ("created_at", "updated_at")
    }
    return replace(record, **times)
