"""The session manager: one session of a database file, for the agents and orchestrators that live in it."""

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from strands.agent.state import AgentState
from strands.hooks.registry import HookRegistry
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.content import Message
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent, SessionType

from . import metadata as session_metadata
from .codec import decode_state, encode_state, timestamp
from .database import Row
from .erasure import erase
from .exceptions import StaleSessionException
from .identifiers import validate_id
from .internals import AgentReader, Hooks, restore_internal_state
from .live import LiveAgent, StaleError
from .records import INSERT_MULTI_AGENT, INSERT_SESSION
from .repository import SQLiteSessionRepository

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

logger = logging.getLogger(__name__)


class SQLiteSessionManager(RepositorySessionManager, SQLiteSessionRepository):
    """One session in a SQLite file, to be given to an agent, a Graph or a Swarm.

    An agent that is built on a session resumes to what the last one on it held: messages, state, the state
    of its conversation manager and its interrupts. The manager is also a `SQLiteSessionRepository`.

    Example:
        ```python
        from strands import Agent
        from strands_sqlite_session_manager import SQLiteSessionManager

        agent = Agent(session_manager=SQLiteSessionManager("my-session", "sessions.db"))
        ```
    """

    def __init__(
        self,
        session_id: str,
        db_path: str | os.PathLike[str] | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 30.0,
        connect: Callable[[str], sqlite3.Connection] | None = None,
    ) -> None:
        """Open a session, creating it as needed.

        Args:
            session_id: The session's id; without path separators, so that it can move to S3 or files.
            db_path: The file; `~` is expanded, missing folders are created. None takes the environment
                variable `STRANDS_SQLITE_DB_PATH`, and without that `./sessions.db`. `:memory:` is a
                database of this object alone.
            metadata: What is to be known of the session, such as `{"user_id": "42"}`; merged into what
                is known already.
            synchronous: FULL: what was stored survives a power failure. NORMAL: faster; a power failure
                can undo the last moments, and never damages the file.
            timeout: Seconds to wait for another writer.
            connect: Opens a connection to a path, for a driver that encrypts, such as `sqlcipher3`; None takes
                `sqlite3`. It opens what `sqlite3.connect(path, check_same_thread=False)` would, with the key set.
                All that use a file at the same time in a process must give the same function.

        Raises:
            TypeError: If the path is not text, the metadata hold anything but strings, or `connect` is no function
                that gives a connection.
            ValueError: If the id is not allowed, the path is empty, or a setting is none that there is.
            SessionException: If the file cannot be opened, is not a database of this package, or was
                written by a newer version of it.
        """
        validate_id(session_id, "session")
        merged = session_metadata.checked({} if metadata is None else metadata)
        SQLiteSessionRepository.__init__(self, db_path, synchronous=synchronous, timeout=timeout, connect=connect)
        self._live_agents: dict[str, tuple[LiveAgent, AgentReader]] = {}
        self._multi_agent_revisions: dict[str, int] = {}
        try:
            self._open_session(session_id, merged)
            RepositorySessionManager.__init__(self, session_id=session_id, session_repository=self)
        except BaseException:
            self.close()
            raise

    def _open_session(self, session_id: str, metadata: Mapping[str, str | None]) -> None:
        """Create the session unless it exists; of several that try at once, one creates and the others join."""
        rows = self._database.read("SELECT metadata FROM sessions WHERE session_id = ?", (session_id,))
        if rows and not metadata:
            return
        now = timestamp()
        with self._database.transaction() as connection:
            connection.execute(
                f"{INSERT_SESSION} ON CONFLICT DO NOTHING",
                (session_id, SessionType.AGENT.value, now, now),
            )
            if metadata:
                session_metadata.merge(connection, session_id, metadata)

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register for what happens to an agent or orchestrator.

        Args:
            registry: Its hooks.
            **kwargs: For future extensibility of the interface.
        """
        hooks = Hooks(registry)
        super().register_hooks(cast(HookRegistry, hooks), **kwargs)
        hooks.add_message_updated_callback(lambda event: self._complete_message(event.message, event.agent))

    # -- agents --

    def initialize(self, agent: Any, **kwargs: Any) -> None:
        """Store a new agent, or bring an agent to what the last one on these ids held.

        Args:
            agent: The agent, just built.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If the agent's id is not allowed, or it has another conversation manager than the
                last one.
            SessionException: If another agent of this manager has the same id, the session was deleted,
                or the file cannot be read or written.
        """
        agent_id = validate_id(agent.agent_id, "agent")
        if agent_id in self._live_agents:
            raise SessionException("The `agent_id` of an agent must be unique in a session.")
        live, reader = LiveAgent(self._database, self.session_id, agent_id), AgentReader()
        if not self._restore(agent, live) and not self._create(agent, live, reader):
            self._restore(agent, live)
        self._live_agents[agent_id] = (live, reader)

    def _create(self, agent: Any, live: LiveAgent, reader: AgentReader) -> bool:
        created = live.create(agent.messages, reader.read(agent))
        if created:
            logger.debug("agent_id=<%s> | session_id=<%s> | created agent", agent.agent_id, self.session_id)
        return created

    def _restore(self, agent: Any, live: LiveAgent) -> bool:
        with self._database.transaction(write=False) as connection:
            try:
                columns = live.load(connection)
                if columns is None:
                    return False
                logger.debug("agent_id=<%s> | session_id=<%s> | restoring agent", agent.agent_id, self.session_id)
                self._put_back(columns, agent, live, connection)
            except (AttributeError, LookupError, TypeError) as error:  # in Strands, the conversation manager, or `load`
                raise SessionException(
                    f"{self._database.path} | agent {agent.agent_id} of session {self.session_id} cannot be restored: a"
                    f" {type(error).__name__}, in its conversation manager or because what is stored was changed, which"
                    " `strands-sqlite check` may tell and a file that `backup` made can mend"
                ) from error
        return True

    def _put_back(
        self, columns: Mapping[str, Any], agent: Any, live: LiveAgent, connection: sqlite3.Connection
    ) -> None:
        agent.state = AgentState(columns["state"])
        restore_internal_state(
            SessionAgent(
                agent_id=agent.agent_id,
                state={},
                conversation_manager_state={},
                _internal_state=columns["internal_state"],
            ),
            agent,
        )
        prepended: list[Any] = []
        removed = 0
        if hasattr(agent, "conversation_manager"):
            manager = agent.conversation_manager
            prepended = manager.restore_from_session(columns["conversation_manager_state"]) or []
            removed = manager.removed_message_count
        messages = live.load_messages(connection, prepended, removed)
        # A server that keeps the conversation itself would be told it twice.
        if not getattr(agent.model, "stateful", False):
            agent.messages = self._fix_broken_tool_use(messages)

    def append_message(self, message: Message, agent: Any, **kwargs: Any) -> None:
        """Store a message that an agent has added, and whatever else has changed since.

        Args:
            message: The message.
            agent: The agent.
            **kwargs: For future extensibility of the interface.

        Raises:
            StaleSessionException: If the conversation was continued elsewhere; nothing was written.
            SessionException: If the message has no exact form in JSON, or cannot be written.
        """
        self._write(agent, lambda live, columns: live.append(message, agent.messages, columns))

    def sync_agent(self, agent: Any, **kwargs: Any) -> None:
        """Store whatever has changed of an agent; nothing is written if nothing has.

        Args:
            agent: The agent.
            **kwargs: For future extensibility of the interface.

        Raises:
            StaleSessionException: If the conversation was continued elsewhere; nothing was written.
            SessionException: If a value has no exact form in JSON, or cannot be written.
        """
        self._write(agent, lambda live, columns: live.save(agent.messages, columns))

    def redact_latest_message(self, redact_message: Message, agent: Any, **kwargs: Any) -> None:
        """Put another message in the place of an agent's latest one, which is then gone from the session.

        Args:
            redact_message: What takes its place.
            agent: The agent.
            **kwargs: For future extensibility of the interface.

        Raises:
            StaleSessionException: If the conversation was continued elsewhere; nothing was written.
            SessionException: If there is no message, or it cannot be written.
        """
        self._write(agent, lambda live, columns: live.redact(redact_message, agent.messages, columns))

    def _complete_message(self, message: Message, agent: Any) -> None:
        self._write(agent, lambda live, columns: live.complete(message, agent.messages, columns))

    def _write(self, agent: Any, write: Callable[[LiveAgent, Mapping[str, Any]], None]) -> None:
        if agent.agent_id not in self._live_agents:
            raise SessionException(
                f"Agent {agent.agent_id} was not built with the manager of session {self.session_id}"
            )
        live, reader = self._live_agents[agent.agent_id]
        with live.lock:
            try:
                write(live, reader.read(agent))
            except BaseException as error:
                reader.forget()  # what it has read is not stored
                if isinstance(error, StaleError):
                    raise self._refusal("agents", "agent_id", f"Agent {agent.agent_id}", agent.agent_id) from error
                raise
            if live.leaves_traces:  # also of an earlier redaction, which failed and was made up for now
                self._erase(live)

    def _erase(self, live: LiveAgent) -> None:
        """Clean the file of what an agent has redacted; tell once if that fails, and try again at every event."""
        try:
            erase(self._database, ids=False)
            live.leaves_traces = live.traces_are_told = False
        except SessionException as error:
            if not live.traces_are_told:
                live.traces_are_told = True
                raise
            logger.warning("session_id=<%s>, error=<%s> | traces are left", self.session_id, error)

    def _refusal(self, table: str, column: str, name: str, id_: str) -> SessionException:
        """Say why a write found nothing on the ids it knows: they are gone, or in another's hands."""
        keys = (self.session_id, id_)
        if not self._database.read(f"SELECT 1 FROM {table} WHERE session_id = ? AND {column} = ?", keys):
            return SessionException(f"{name} in session {self.session_id} does not exist")
        return StaleSessionException(
            f"{name} in session {self.session_id}: the conversation was continued elsewhere since it was loaded here,"
            " and nothing was overwritten. To go on from there, build a new session manager on the same session, and"
            " what uses it again"
        )

    # In older versions of Strands, a BidiAgent calls these.

    def initialize_bidi_agent(self, agent: Any, **kwargs: Any) -> None:
        """Do for a BidiAgent what `initialize` does."""
        self.initialize(agent, **kwargs)

    def append_bidi_message(self, message: Message, agent: Any, **kwargs: Any) -> None:
        """Do for a BidiAgent what `append_message` does."""
        self.append_message(message, agent, **kwargs)

    def sync_bidi_agent(self, agent: Any, **kwargs: Any) -> None:
        """Do for a BidiAgent what `sync_agent` does."""
        self.sync_agent(agent, **kwargs)

    # -- orchestrators --

    def initialize_multi_agent(self, source: "MultiAgentBase", **kwargs: Any) -> None:
        """Store a new orchestrator, or bring one to what the last one on these ids had reached.

        Args:
            source: The Graph, Swarm or other orchestrator, just built.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If the session was deleted, the state has no exact form in JSON, or the file
                cannot be read or written.
        """
        keys = (self.session_id, validate_id(source.id, "agent"))
        read = "SELECT revision, state FROM multi_agents WHERE session_id = ? AND multi_agent_id = ?"

        def decoded(row: Row) -> tuple[int, Any]:
            return row[0], decode_state(row[1], "the state of", source.id, "in session", self.session_id)

        rows = self._database.read(read, keys, decoded)
        restoring = bool(rows)
        if not rows:
            state, now = encode_state(source.serialize_state(), "state"), timestamp()
            with self._database.transaction() as connection:
                try:
                    restoring = not connection.execute(
                        f"{INSERT_MULTI_AGENT} ON CONFLICT DO NOTHING",
                        (*keys, now, now, state),
                    ).rowcount
                except connection.IntegrityError as error:
                    raise SessionException(f"Session {self.session_id} does not exist") from error
                rows = list(map(decoded, connection.execute(read, keys).fetchall()))
        if not rows:  # somebody else's trigger
            raise SessionException(f"MultiAgent state {source.id} in session {self.session_id} does not exist")
        ((revision, state),) = rows
        if restoring:
            source.deserialize_state(state)
        self._multi_agent_revisions[source.id] = revision

    def sync_multi_agent(self, source: "MultiAgentBase", **kwargs: Any) -> None:
        """Store what an orchestrator has reached.

        Args:
            source: The Graph, Swarm or other orchestrator.
            **kwargs: For future extensibility of the interface.

        Raises:
            StaleSessionException: If the orchestrator was continued elsewhere; nothing was written.
            SessionException: If it was deleted, the state has no exact form in JSON, or cannot be written.
        """
        if source.id not in self._multi_agent_revisions:
            self.update_multi_agent(self.session_id, source)
            return
        revision = self._multi_agent_revisions[source.id]
        written = self._database.write(
            "UPDATE multi_agents SET revision = ?, updated_at = ?, state = ?"
            " WHERE session_id = ? AND multi_agent_id = ? AND revision = ?",
            (
                revision + 1,
                timestamp(),
                encode_state(source.serialize_state(), "state"),
                *(self.session_id, source.id, revision),
            ),
        )
        if not written:
            raise self._refusal("multi_agents", "multi_agent_id", f"MultiAgent state {source.id}", source.id)
        self._multi_agent_revisions[source.id] = revision + 1
