"""SQLiteSessionManager: Strands' events, in terms of the layers below."""

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from strands.agent.state import AgentState
from strands.hooks.registry import HookRegistry
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from .context.account import Change, StaleError
from .context.agent import LiveAgent
from .context.orchestrator import LiveOrchestrator
from .context.stash import refill
from .context.strands_private import AgentColumns, Hooks, fix_broken_tool_use, read_columns, restore_internal_state
from .database.identifiers import validate_id
from .database.tables import SESSIONS
from .errors import SessionException, SessionExistsException, SessionNotFoundException, StaleSessionException
from .repository import SQLiteSessionRepository
from .sessions import metadata as session_metadata
from .sessions import records

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

logger = logging.getLogger(__name__)

_Prepare = Callable[[LiveAgent, AgentColumns], Change | None]


@dataclass
class _Registered:
    """A live agent or orchestrator of a manager; ready once it is stored or restored."""

    account: Any
    is_ready: bool = False


class SQLiteSessionManager(RepositorySessionManager, SQLiteSessionRepository):
    """One session in a SQLite file, for an agent, several agents, a Graph or a Swarm.

    Build an agent on an existing session and it picks up where it left off: messages, state, and the state of its
    conversation manager and its interrupts. The manager is also a `SQLiteSessionRepository`.

    To change what is stored, for example to remove personal data, override `message_to_store`. Overriding
    `create_message` or `update_message` has no effect on live agents: their messages do not pass through them.

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
        """Open a session, creating it if it does not exist.

        Args:
            session_id: The session's id, without path separators, so that the session can move to S3 or files.
            db_path: The file. `~` is expanded, and missing folders are created. None uses the environment variable
                `STRANDS_SQLITE_DB_PATH`, or `./sessions.db` if it is not set. `:memory:` is a database in memory,
                private to this object.
            metadata: Metadata of the session, such as `{"user_id": "42"}`, merged into its existing metadata.
            synchronous: With FULL, what was stored survives a power failure. NORMAL is faster; a power failure can undo
                the latest writes, but never damages the file.
            timeout: Seconds to wait for other writers, more than 0.
            connect: Opens a connection to a path, for a driver that encrypts, such as `sqlcipher3`; None uses
                `sqlite3`. It returns what `sqlite3.connect(path, check_same_thread=False)` would, with the key set.
                Everything in a process that uses a file at the same time must pass the same function.

        Raises:
            TypeError: If the path is not text, the metadata holds anything but strings, or `connect` is not a function
                that returns a connection.
            ValueError: If the id is not allowed, the path is empty or names a folder, or a setting is unsupported.
            SessionException: If the file cannot be opened, is not a database of this package, was written by a newer
                version of it, or has a second name (a hard link).
            DatabaseLockedException: If other writers kept the file locked for `timeout` seconds.
        """
        validate_id(session_id, "session")
        merged = session_metadata.check_metadata(metadata)
        SQLiteSessionRepository.__init__(self, db_path, synchronous=synchronous, timeout=timeout, connect=connect)
        self._agents: dict[str, _Registered] = {}
        self._orchestrators: dict[str, _Registered] = {}
        try:
            self._open_session(session_id, merged)
        except BaseException:
            self.close()
            raise

    def _open_session(self, session_id: str, metadata: Mapping[str, str | None]) -> None:
        """Create the session unless it exists; if several try at once, one creates it and the others open it."""
        if metadata:
            row = records.session_row(Session(session_id, SessionType.AGENT))

            def open_(connection: sqlite3.Connection) -> None:
                connection.execute(f"{SESSIONS.insert} ON CONFLICT DO NOTHING", row)
                session_metadata.merge(connection, session_id, metadata)

            self._database.transaction(open_)
        join = partial(RepositorySessionManager.__init__, self, session_id=session_id, session_repository=self)
        try:
            join()  # creates it, too
        except SessionExistsException:  # another writer was faster
            join()

    @property
    def session_repository(self) -> SessionRepository:
        """The manager itself; storing a reference would keep its connections until the next garbage collection."""
        return self

    @session_repository.setter
    def session_repository(self, repository: SessionRepository) -> None:
        if repository is not self:  # upstream's constructor sets it
            raise AttributeError("session_repository | is the manager itself; copy_session copies sessions elsewhere")

    def __reduce__(self) -> tuple[Any, ...]:
        """Describe how to open the same session again, for `pickle` and `copy`.

        Raises:
            TypeError: If the database is in memory, or was opened with a `connect` function.
        """
        reopen, (kind, _, settings), *_ = super().__reduce__()
        return reopen, (kind, (self.session_id,), settings)

    def message_to_store(self, message: Message) -> Message:
        """Return the form in which a message of a live agent is stored; override it to change what is stored.

        The agent continues with the message as it is; a later agent resumes with the stored form. Appended, edited and
        redacted messages pass through here, and so do the conversation manager's summaries; `agent.state` and the
        states of orchestrators do not.

        Args:
            message: A copy of the message, which you may change.
        """
        return message

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register for the events of an agent or orchestrator.

        Args:
            registry: The hooks of that agent or orchestrator.
            **kwargs: For future extensions of the interface.
        """
        hooks = Hooks(
            registry,
            message_added=self._on_message_added,
            message_updated=self._on_message_updated,
            agent_changed=self._on_agent_changed,
            multi_agent_changed=self._on_multi_agent_changed,
        )
        super().register_hooks(cast(HookRegistry, hooks), **kwargs)

    # -- events, in an event loop, which never waits here for a lock or the disk --

    async def _on_message_added(self, event: Any) -> None:
        if self._overrides("append_message"):
            self.append_message(event.message, event.agent)
        else:
            await self._store_async(
                event.agent, lambda live, columns: live.append(event.message, event.agent.messages, columns)
            )

    async def _on_message_updated(self, event: Any) -> None:
        await self._store_async(
            event.agent, lambda live, columns: live.complete(event.message, event.agent.messages, columns)
        )

    async def _on_agent_changed(self, event: Any) -> None:
        if self._overrides("sync_agent"):
            self.sync_agent(event.agent)
        else:
            await self._store_async(event.agent, lambda live, columns: live.save(event.agent.messages, columns))

    async def _on_multi_agent_changed(self, event: Any) -> None:
        source = event.source
        if self._overrides("sync_multi_agent") or source.id not in self._orchestrators:
            self.sync_multi_agent(source)
            return
        account = self._orchestrators[source.id].account
        try:
            await account.store_async(lambda: account.save(source))
        except StaleError as error:
            raise self._refusal("multi_agents", source.id) from error

    def _overrides(self, name: str) -> bool:
        """Return whether a subclass overrides a method of the interface, which must then be called."""
        return getattr(type(self), name) is not getattr(SQLiteSessionManager, name)

    async def _store_async(self, agent: Any, prepare: _Prepare) -> None:
        account = self._live_agent(agent)
        try:
            await account.store_async(lambda: prepare(account, read_columns(agent, account.version)))
        except StaleError as error:
            raise self._refusal("agents", agent.agent_id) from error

    # -- agents --

    def initialize(self, agent: Any, **kwargs: Any) -> None:
        """Store a new agent, or restore what the last agent with these ids held.

        Args:
            agent: The agent, just built.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If the agent's id is not allowed, or its conversation manager is of a different class than the
                last agent's.
            SessionNotFoundException: If the session was deleted.
            SessionException: If another agent of this manager has the same id, or the file cannot be read or written.
        """
        agent_id = validate_id(agent.agent_id, "agent")
        store_form = self.message_to_store if self._overrides("message_to_store") else None
        live = LiveAgent(self._database, self.session_id, agent_id, store_form)

        def begin() -> None:
            if not self._restore(agent, live) and not self._create(agent, live):
                self._restore(agent, live)

        message = "The `agent_id` of an agent must be unique in a session."
        self._register(self._agents, agent_id, live, begin, message)

    def _register(
        self, registered: dict[str, _Registered], id_: str, account: Any, begin: Callable[[], None], taken: str
    ) -> None:
        """Register an account under an id that is free, and let it begin; if that fails, the id is free again."""
        entry = _Registered(account)

        def withdraw() -> None:
            if not entry.is_ready and registered.get(id_) is entry:
                registered.pop(id_, None)

        try:
            try:
                if registered.setdefault(id_, entry) is not entry:
                    raise SessionException(taken)
                begin()
                entry.is_ready = True
            finally:
                withdraw()
        finally:
            withdraw()  # once more, for an interrupt in the line before

    def _create(self, agent: Any, live: LiveAgent) -> bool:
        created = live.create(agent.messages, read_columns(agent, None))
        if created:
            logger.debug("agent_id=<%s> | session_id=<%s> | created agent", agent.agent_id, self.session_id)
        return created

    def _restore(self, agent: Any, live: LiveAgent) -> bool:
        def restore(connection: sqlite3.Connection) -> bool:
            try:
                columns = live.load(connection)
                if columns is None:
                    return False
                logger.debug("agent_id=<%s> | session_id=<%s> | restoring agent", agent.agent_id, self.session_id)
                self._put_back(columns, agent, live, connection)
            except (AttributeError, LookupError, TypeError) as error:  # in Strands, the conversation manager, or `load`
                raise SessionException(
                    f"{self._database.path} | agent {agent.agent_id} of session {self.session_id} cannot be restored:"
                    f" {type(error).__name__}, in its conversation manager or because its stored data was changed."
                    " `strands-sqlite check` may show which; a file that `backup` made has the agent as it was"
                ) from error
            return True

        return self._database.snapshot(restore)

    def _put_back(
        self, columns: Mapping[str, Any], agent: Any, live: LiveAgent, connection: sqlite3.Connection
    ) -> None:
        agent.state = AgentState(columns["state"])
        restore_internal_state(agent, columns["internal_state"])
        prepended: list[Any] = []
        removed = 0
        if hasattr(agent, "conversation_manager"):
            manager = agent.conversation_manager
            prepended = manager.restore_from_session(columns["conversation_manager_state"]) or []
            removed = manager.removed_message_count
        messages = live.load_messages(connection, prepended, removed)
        refill(agent, partial(records.read_history, self._database, self.session_id, agent.agent_id))
        # A model server that keeps the conversation itself would get it twice.
        if not getattr(agent.model, "stateful", False):
            agent.messages = fix_broken_tool_use(self, messages)

    def append_message(self, message: Message, agent: Any, **kwargs: Any) -> None:
        """Store a message that an agent has added, and whatever else has changed since.

        If it fails or is interrupted, the message is stored with the next event.

        Args:
            message: The message.
            agent: The agent.
            **kwargs: For future extensions of the interface.

        Raises:
            StaleSessionException: If another writer continued the conversation; nothing was written.
            SessionException: If the message has no exact form in JSON, or cannot be written.
        """
        self._store(agent, lambda live, columns: live.append(message, agent.messages, columns))

    def sync_agent(self, agent: Any, **kwargs: Any) -> None:
        """Store what has changed in an agent; nothing is written if nothing has.

        Args:
            agent: The agent.
            **kwargs: For future extensions of the interface.

        Raises:
            StaleSessionException: If another writer continued the conversation; nothing was written.
            SessionException: If a value has no exact form in JSON, or cannot be written.
        """
        self._store(agent, lambda live, columns: live.save(agent.messages, columns))

    def redact_latest_message(self, redact_message: Message, agent: Any, **kwargs: Any) -> None:
        """Replace an agent's latest message, and remove the original from the session.

        As after a deletion, the original leaves the write-ahead log at once unless a reader still uses it.

        Args:
            redact_message: The replacement.
            agent: The agent.
            **kwargs: For future extensions of the interface.

        Raises:
            StaleSessionException: If another writer continued the conversation; nothing was written.
            SessionException: If there is no message, or it cannot be written.
        """
        self._store(agent, lambda live, columns: live.redact(redact_message, agent.messages, columns))
        self._database.empty_wal()

    def _store(self, agent: Any, prepare: _Prepare) -> None:
        account = self._live_agent(agent)
        try:
            account.store(lambda: prepare(account, read_columns(agent, account.version)))
        except StaleError as error:
            raise self._refusal("agents", agent.agent_id) from error

    def _live_agent(self, agent: Any) -> LiveAgent:
        registered = self._agents.get(agent.agent_id)
        if registered is None:
            raise SessionException(
                f"Agent {agent.agent_id} was not built with the manager of session {self.session_id}"
            )
        return cast(LiveAgent, registered.account)

    def _refusal(self, table: str, id_: str) -> SessionException:
        """Return why a write did not find the revision it knows: the row is gone, or another writer changed it."""
        name = f"Agent {id_}" if table == "agents" else f"MultiAgent state {id_}"
        keys = (self.session_id, id_)
        if not self._database.read(f"SELECT 1 FROM {table} WHERE session_id = ? AND {table[:-1]}_id = ?", keys):
            return SessionNotFoundException(f"{name} in session {self.session_id} does not exist")
        return StaleSessionException(
            f"{name} in session {self.session_id}: another writer continued the conversation since it was loaded here,"
            " and nothing was overwritten. To continue, build a new session manager on the same session, and a"
            " new agent or orchestrator with it"
        )

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Replace a stored agent, as in `SQLiteSessionRepository`.

        A live agent of this manager does not become stale: its next event stores its own state again.
        """

        def update() -> dict[str, Any]:
            before, after = records.update_agent(self._database, session_id, session_agent)
            return {"before": before, "after": after, "columns_changed": True}

        self._beside_live_agent(session_id, session_agent.agent_id, update)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Replace a stored message, as in `SQLiteSessionRepository`.

        A live agent of this manager does not become stale. It continues with the message as it holds it, and its next
        event stores that form beside the new message.
        """

        def update() -> dict[str, Any]:
            before, after = records.update_message(self._database, session_id, agent_id, session_message)
            return {
                "before": before,
                "after": after,
                "message": (session_message.message_id, session_message.to_message()),
            }

        self._beside_live_agent(session_id, agent_id, update)

    def _beside_live_agent(self, session_id: str, agent_id: str, update: Callable[[], dict[str, Any]]) -> None:
        registered = self._agents.get(agent_id) if session_id == self.session_id else None
        if registered is None:
            update()
            return
        account = cast(LiveAgent, registered.account)
        account.update(lambda: account.note_update(**update()))

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
        """Store a new orchestrator, or restore the state of the last one with these ids.

        Args:
            source: The Graph, Swarm or other orchestrator, just built.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If the id is not allowed.
            SessionNotFoundException: If the session was deleted.
            SessionException: If another orchestrator of this manager has the same id, the state has no exact form in
                JSON, or the file cannot be read or written.
        """
        id_ = validate_id(source.id, "agent")
        former = self._orchestrators.get(id_)
        if former is not None and former.is_ready and former.account.source in (None, source):
            self._orchestrators.pop(id_, None)
        live = LiveOrchestrator(self._database, self.session_id, source)
        taken = (
            f"The id of an orchestrator must be unique in a session, and {id_!r} is in use in this manager: give each"
            " Graph or Swarm an id of its own"
        )
        self._register(self._orchestrators, id_, live, lambda: live.initialize(source), taken)

    def sync_multi_agent(self, source: "MultiAgentBase", **kwargs: Any) -> None:
        """Store the state of an orchestrator.

        Args:
            source: The Graph, Swarm or other orchestrator.
            **kwargs: For future extensions of the interface.

        Raises:
            StaleSessionException: If another writer continued the orchestrator; nothing was written.
            SessionNotFoundException: If it was deleted.
            SessionException: If the state has no exact form in JSON, or cannot be written.
        """
        registered = self._orchestrators.get(source.id)
        if registered is None:
            self.update_multi_agent(self.session_id, source)
            return
        account = cast(LiveOrchestrator, registered.account)
        try:
            account.store(lambda: account.save(source))
        except StaleError as error:
            raise self._refusal("multi_agents", source.id) from error
