"""The PostgreSQL store of `strands-postgresql-session-manager`, opened as a whole."""

import logging

from sqlmodel import Session, SQLModel, create_engine, select
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
