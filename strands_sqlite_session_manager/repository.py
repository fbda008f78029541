"""SQLiteSessionRepository: Strands' `SessionRepository` on a SQLite file, and the file as a whole."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from .database.database import Database
from .database.identifiers import validate_id
from .sessions import delete, fork, listing, maintenance, records, rewind, search, usage
from .sessions import metadata as session_metadata
from .sessions.listing import Filter, SessionSummary
from .sessions.search import MessageMatch
from .sessions.usage import UsageSummary
from .transfer import jsonl

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

_Self = TypeVar("_Self", bound="SQLiteSessionRepository")


class SQLiteSessionRepository(SessionRepository):
    """All sessions of one SQLite file.

    Use it to manage the file, and `SQLiteSessionManager` for an agent: a repository creates no session. You can use it
    from any thread, pickle and copy it, and need not close it.

    Example:
        ```python
        with SQLiteSessionRepository("sessions.db") as repository:
            for message in repository.list_messages("my-session", "default"):
                print(message.message_id, message.to_message()["role"])
        ```
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 30.0,
        connect: Callable[[str], sqlite3.Connection] | None = None,
        read_only: bool = False,
    ) -> None:
        """Open a database file, creating or upgrading it as needed.

        Args:
            db_path: The file. `~` is expanded, and missing folders are created. None uses the environment variable
                `STRANDS_SQLITE_DB_PATH`, or `./sessions.db` if it is not set. `:memory:` is a database in memory,
                private to this object.
            synchronous: With FULL, what was stored survives a power failure. NORMAL is faster; a power failure can undo
                the latest writes, but never damages the file.
            timeout: Seconds to wait for other writers, more than 0.
            connect: Opens a connection to a path, for a driver that encrypts, such as `sqlcipher3`; None uses
                `sqlite3`. It returns what `sqlite3.connect(path, check_same_thread=False)` would, with the key set.
                Everything in a process that uses a file at the same time must pass the same function.
            read_only: If true, the file must exist, and every write is an error.

        Raises:
            TypeError: If the path is not text, or `connect` is not a function that returns a connection.
            ValueError: If the path is empty or names a folder, or a setting is unsupported.
            SessionException: If the file cannot be opened, is not a database of this package, was written by a newer
                version of it, or has a second name (a hard link).
            DatabaseLockedException: If another process kept the file locked for `timeout` seconds.
        """
        self._database = Database(
            db_path, synchronous=synchronous, timeout=timeout, connect=connect, read_only=read_only
        )

    def close(self) -> None:
        """Stop using the file; its connections are closed once nothing in the process uses them."""
        self._database.close()

    def __enter__(self: _Self) -> _Self:
        """Return the object itself; the end of the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Describe how to open the same file again, for `pickle` and `copy`.

        Raises:
            TypeError: If the database is in memory, or was opened with a `connect` function.
        """
        return _reopen, (type(self), (), self._database.arguments())

    # -- sessions --

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Store a new session.

        Args:
            session: The session.
            **kwargs: For future extensions of the interface.

        Returns:
            The same session.

        Raises:
            ValueError: If the id is not allowed.
            SessionExistsException: If there is a session with this id.
            SessionException: If it cannot be written.
        """
        records.create_session(self._database, session)
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, or None if there is none.

        Args:
            session_id: The session's id.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If the file cannot be read.
        """
        return records.read_session(self._database, session_id)

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete a session with its agents, messages, orchestrators and metadata.

        What is deleted is overwritten in the file. It leaves the write-ahead log at once, unless a reader still uses it
        after 100 ms. `vacuum` says what can remain.

        Args:
            session_id: The session's id.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If the id is not allowed.
            SessionNotFoundException: If there is no such session.
            SessionException: If it cannot be deleted.
        """
        delete.delete_session(self._database, session_id)

    def delete_sessions(
        self, *, metadata: Mapping[str, str] | None = None, updated_before: datetime | str | None = None
    ) -> int:
        """Delete all sessions with some metadata, without activity since a time, or both.

        They are deleted one after the other, in transactions of about 20 ms, so that others can write in between.

        Args:
            metadata: Only sessions with all of these values.
            updated_before: Only sessions whose last activity is earlier: an aware `datetime`, or ISO 8601 text.

        Returns:
            The number of deleted sessions.

        Raises:
            TypeError: If the metadata holds anything but strings, or the time is neither a datetime nor text.
            ValueError: If neither metadata nor a time is given, or the time has no time zone.
            SessionException: If they cannot be deleted.
        """
        return delete.delete_sessions(self._database, Filter.of(metadata, None, updated_before))

    def list_sessions(
        self,
        *,
        metadata: Mapping[str, str] | None = None,
        updated_after: datetime | str | None = None,
        updated_before: datetime | str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[SessionSummary]:
        """Return the sessions, newest activity first.

        Args:
            metadata: Only sessions with all of these values.
            updated_after: Only sessions whose last activity is later: an aware `datetime`, or ISO 8601 text such as
                the `updated_at` of a summary.
            updated_before: Only sessions whose last activity is earlier; the same types.
            limit: The maximum number to return; None returns all.
            offset: The number to skip first.

        Raises:
            TypeError: If the metadata holds anything but strings, a time is neither a datetime nor text, or a number is
                not an integer.
            ValueError: If a time has no time zone, or a number is negative.
            SessionException: If the file cannot be read.
        """
        selected = Filter.of(metadata, updated_after, updated_before)
        return listing.list_sessions(self._database, selected, limit=limit, offset=offset)

    def read_session_summary(self, session_id: str) -> SessionSummary | None:
        """Return the summary of one session, or None if there is no such session.

        Args:
            session_id: The session's id.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If the file cannot be read.
        """
        return listing.read_session_summary(self._database, session_id)

    def update_session_metadata(self, session_id: str, metadata: Mapping[str, str | None]) -> None:
        """Merge values into the metadata of a session.

        Args:
            session_id: The session's id.
            metadata: New values by key; None removes a key.

        Raises:
            TypeError: If keys or values are anything but strings or None.
            ValueError: If the id is not allowed.
            SessionNotFoundException: If there is no such session.
            SessionException: If it cannot be written.
        """
        changes = session_metadata.check_metadata(metadata, removable=True)
        validate_id(session_id, "session")
        self._database.transaction(lambda connection: session_metadata.merge(connection, session_id, changes))

    def fork_session(
        self,
        session_id: str,
        new_session_id: str,
        *,
        agent_id: str | None = None,
        through_message: int | None = None,
        metadata: Mapping[str, str | None] | None = None,
    ) -> Session:
        """Copy a session under a new id, to continue an old conversation in a new direction.

        Metadata, agents, messages and orchestrators are copied; the original is not changed. The summary of the fork
        names the original.

        Args:
            session_id: The session to copy.
            new_session_id: The id of the copy.
            agent_id: The agent that `through_message` refers to; not needed if there is only one.
            through_message: The id of the last message of that agent to copy; -1 copies none. The agent resumes with
                exactly what it would have resumed with just before the next message was added: messages, state,
                conversation manager, interrupts, model state. This is unknown for messages from before the session was
                copied here from another store: the agent then holds the history from its beginning, or from its summary
                on.
            metadata: What to merge into the copied metadata; None removes a key.

        Returns:
            The new session.

        Raises:
            TypeError: If the metadata holds anything but strings or None.
            ValueError: If an id is not allowed, there are several agents and none is named, or one is named without
                `through_message`.
            SessionNotFoundException: If the session, agent or message does not exist.
            SessionExistsException: If there is a session with the new id.
            SessionException: If it cannot be written.
        """
        session_type, now = fork.fork_session(
            self._database,
            session_id,
            new_session_id,
            agent_id=agent_id,
            through_message=through_message,
            metadata=metadata,
        )
        return Session(new_session_id, SessionType(session_type), now, now)

    def rewind_session(self, session_id: str, *, through_message: int, agent_id: str | None = None) -> None:
        """Take a session back to a message: delete what came after it, and restore what the agent had then.

        This is one transaction. Live agents on the session become stale. Other agents and the states of orchestrators
        are left alone. To lose nothing, call `fork_session` first.

        Args:
            session_id: The session's id.
            through_message: The id of the last message to keep; -1 keeps none. The agent resumes as a fork through this
                message would.
            agent_id: The agent to rewind; not needed if there is only one.

        Raises:
            ValueError: If an id is not allowed, or there are several agents and none is named.
            SessionNotFoundException: If the session, agent or message does not exist.
            SessionException: If it cannot be written.
        """
        rewind.rewind_session(self._database, session_id, through_message, agent_id)

    def search_messages(
        self,
        text: str,
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int | None = 50,
    ) -> list[MessageMatch]:
        """Return the messages that contain a text, the last stored first.

        The search covers texts, reasoning, and the inputs and results of tools, in any script and ignoring case. It
        does not find redacted text.

        Args:
            text: What to look for, literally: there are no wildcards.
            session_id: Only in this session.
            agent_id: Only messages of agents with this id.
            metadata: Only in sessions with all of these values.
            limit: The maximum number to return; None returns all.

        Raises:
            TypeError: If the text is not a string, the metadata holds anything but strings, or the limit is not an
                integer.
            ValueError: If the text is empty, an id is not allowed, or the limit is negative.
            SessionException: If the file cannot be read.
        """
        return search.search_messages(
            self._database, text, session_id=session_id, agent_id=agent_id, metadata=metadata, limit=limit
        )

    def usage(
        self,
        *,
        by: str = "session",
        metadata: Mapping[str, str] | None = None,
        after: datetime | str | None = None,
        before: datetime | str | None = None,
    ) -> list[UsageSummary]:
        """Return the tokens that agents and orchestrators used, as far as the models reported them.

        Messages that a fork copied count once, in the original. An orchestrator's stored state has the tokens of its
        last run only. What was deleted no longer counts.

        Args:
            by: What to group by: `session`, `agent` (or orchestrator), `day`, `month` (both in UTC), `role`, or a
                metadata key, such as `user_id`.
            metadata: Only sessions with all of these values.
            after: Only what was said later: an aware `datetime`, or ISO 8601 text.
            before: Only what was said earlier; the same types.

        Returns:
            A summary for each group. Days and months are in order; of other groups, the one with the most tokens comes
            first.

        Raises:
            TypeError: If `by` is not a string, the metadata holds anything but strings, or a time is neither a datetime
                nor text.
            ValueError: If a time has no time zone, or is not ISO 8601.
            SessionException: If the file cannot be read.
        """
        return usage.usage(self._database, by=by, metadata=metadata, after=after, before=before)

    def export_sessions(
        self, stream: TextIO, session_ids: Iterable[str] | None = None, *, metadata: Mapping[str, str] | None = None
    ) -> int:
        """Write sessions as JSON Lines, with everything that the file holds of them.

        Each session is written as of one moment. An import restores it, identical in every detail.

        Args:
            stream: Where to write the lines, such as `open(path, "w", encoding="utf-8")`.
            session_ids: The sessions to write; an empty list writes none. None writes all, unless you pass metadata.
            metadata: Write the sessions with all of these values, instead of ids.

        Returns:
            The number of sessions written.

        Raises:
            TypeError: If the metadata holds anything but strings, or the ids are one string.
            ValueError: If an id is not allowed, or there are both ids and metadata.
            SessionNotFoundException: If there is no such session. The sessions before it are written.
            SessionException: If the file cannot be read.
        """
        if isinstance(session_ids, str):
            raise TypeError("session_ids=<str> | must be a list of ids")
        if session_ids is not None and metadata is not None:
            raise ValueError("session_ids, metadata | pass one of them")
        selected = Filter.of(metadata) if session_ids is None else list(dict.fromkeys(session_ids))
        exported = 0

        def count(done: int, total: int) -> None:
            nonlocal exported
            exported = done

        for line in jsonl.export_sessions(self._database, selected, count):
            stream.write(f"{line}\n")
        return exported

    def import_sessions(self, stream: Iterable[str], *, replace: bool = False) -> int:
        """Store the sessions of an export, each of them completely or not at all.

        Args:
            stream: The exported lines, such as `open(path, encoding="utf-8")`.
            replace: Whether to replace existing sessions; a live agent on one becomes stale.

        Returns:
            The number of sessions stored.

        Raises:
            SessionExistsException: If a session exists and `replace` is false.
            SessionException: If a line is malformed, or cannot be written. All errors name the line. Its session is not
                stored; the sessions before it are.
        """
        return jsonl.import_sessions(lambda: self._database, stream, replace=replace)

    # -- agents --

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store a new agent of a session.

        Args:
            session_id: The session's id.
            session_agent: The agent.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionNotFoundException: If there is no such session.
            SessionExistsException: If the session has an agent with this id.
            SessionException: If a value has no exact form in JSON, or cannot be written.
        """
        records.create_agent(self._database, session_id, session_agent)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent of a session, or None if there is none.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If the file cannot be read.
        """
        return records.read_agent(self._database, session_id, agent_id)

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Replace a stored agent, except for its creation time.

        A live agent with these ids becomes stale. If the state of the conversation manager changes, the next resume
        derives the context from that state, as upstream does.

        Args:
            session_id: The session's id.
            session_agent: The agent; its `created_at` is set to the stored one.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionNotFoundException: If there is no such agent.
            SessionException: If a value has no exact form in JSON, or cannot be written.
        """
        records.update_agent(self._database, session_id, session_agent)

    def update_agent_state(self, session_id: str, agent_id: str, changes: Mapping[str, Any]) -> None:
        """Merge values into the state of an agent from outside, for example from an admin page.

        A live agent with these ids becomes stale: its next event raises `StaleSessionException`.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            changes: New values by top-level key of `agent.state`; None removes a key.

        Raises:
            TypeError: If the changes are not a mapping.
            ValueError: If an id is not allowed, or a key is not a string or is blank.
            SessionNotFoundException: If there is no such agent.
            SessionException: If a value has no exact form in JSON, or cannot be written.
        """
        records.update_agent_state(self._database, session_id, agent_id, changes)

    def list_agents(self, session_id: str) -> list[SessionAgent]:
        """Return the agents of a session in order of creation; an empty list if there is no such session.

        Args:
            session_id: The session's id.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If the file cannot be read.
        """
        return records.list_agents(self._database, session_id)

    # -- messages --

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Store a new message of an agent.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            session_message: The message.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionNotFoundException: If there is no such agent.
            SessionExistsException: If the agent has a message with this id.
            SessionException: If the message has no exact form in JSON, or cannot be written.
        """
        records.create_message(self._database, session_id, agent_id, session_message)

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Return a message, or None if there is none.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            message_id: The message's id.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If the file cannot be read.
        """
        return records.read_message(self._database, session_id, agent_id, message_id)

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Replace a stored message, except for its creation time.

        A live agent with these ids becomes stale.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            session_message: The message; its `created_at` is set to the stored one.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionNotFoundException: If there is no such message.
            SessionException: If the message has no exact form in JSON, or cannot be written.
        """
        records.update_message(self._database, session_id, agent_id, session_message)

    def list_messages(
        self,
        session_id: str,
        agent_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        last: int | None = None,
        **kwargs: Any,
    ) -> list[SessionMessage]:
        """Return an agent's messages as they were said, in the order of their ids.

        Messages that the agent trimmed or summarized are included; redacted ones are replaced.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            limit: The maximum number to return; None returns all.
            offset: The number to skip first.
            last: Return this many from the end, instead of a limit and an offset.
            **kwargs: For future extensions of the interface.

        Returns:
            The messages; an empty list if there is no such agent.

        Raises:
            TypeError: If a number is not an integer.
            ValueError: If an id is not allowed, a number is negative, or there is a limit or an offset beside `last`.
            SessionException: If the file cannot be read.
        """
        return records.list_messages(self._database, session_id, agent_id, limit, offset, last)

    def read_context(self, session_id: str, agent_id: str, through_message: int | None = None) -> list[Message]:
        """Return the messages that an agent would resume with, or would have resumed with.

        `list_messages` returns what was said; this returns what the model sees of it: trimmed, edited, summarized.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            through_message: The id of a message: return what the agent would have resumed with just before the next one
                was added. -1 is the empty beginning, None is now.

        Raises:
            ValueError: If an id is not allowed.
            SessionNotFoundException: If there is no such agent or message.
            SessionException: If the file cannot be read.
        """
        return records.read_context(self._database, session_id, agent_id, through_message)

    # -- orchestrators --

    def create_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Store the state of an orchestrator, replacing any that is stored.

        Args:
            session_id: The session's id.
            multi_agent: The Graph, Swarm or other orchestrator.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionNotFoundException: If there is no such session.
            SessionException: If the state has no exact form in JSON, or cannot be written.
        """
        records.create_multi_agent(self._database, session_id, multi_agent.id, multi_agent.serialize_state)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the state of an orchestrator, or None if there is none.

        Args:
            session_id: The session's id.
            multi_agent_id: The orchestrator's id.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If the file cannot be read.
        """
        return records.read_multi_agent(self._database, session_id, multi_agent_id)

    def update_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Replace the stored state of an orchestrator.

        Args:
            session_id: The session's id.
            multi_agent: The Graph, Swarm or other orchestrator.
            **kwargs: For future extensions of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionNotFoundException: If there is no such orchestrator.
            SessionException: If the state has no exact form in JSON, or cannot be written.
        """
        records.update_multi_agent(self._database, session_id, multi_agent.id, multi_agent.serialize_state)

    def list_multi_agents(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators; an empty list if there is no such session.

        Args:
            session_id: The session's id.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If the file cannot be read.
        """
        return records.list_multi_agents(self._database, session_id)

    # -- the file --

    def backup(
        self, destination: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Copy the database, as of this moment, to a new file, while others continue to write.

        The file gets its name only when it is complete. Only its owner can read it.

        Args:
            destination: The file to create.
            progress: Called from time to time with the number of pages copied and the total number of pages, of 4,096
                bytes each.

        Raises:
            TypeError: If the destination is not text.
            ValueError: If it is empty, or not a possible path.
            SessionException: If the destination exists, or cannot be written.
        """
        maintenance.backup(self._database, destination, progress)

    def check(self) -> list[str]:
        """Examine the file: SQLite's integrity check, foreign keys, JSON, and gaps in the ids of messages.

        Returns:
            A sentence for each problem, naming the rows; an empty list if the file is healthy.

        Raises:
            SessionException: If the file cannot be read.
        """
        return maintenance.check(self._database)

    def vacuum(self) -> None:
        """Rewrite the file without unused space. Afterward, nothing deleted or redacted is in the file.

        Deletion overwrites what it deletes, but SQLite can leave fragments of rows that it moved between pages; this
        call removes them. Others cannot write meanwhile, and it needs free space of up to twice the size of the file.

        Raises:
            DatabaseLockedException: If others used the file for too long: a writer, so that nothing was rewritten, or a
                reader that keeps old pages in the write-ahead log.
            SessionException: If SQLite fails, for example because the disk is full.
        """
        self._database.vacuum()


def _reopen(kind: type[Any], arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    return kind(*arguments, **settings)
