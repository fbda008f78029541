"""The database as a whole: Strands' interface, and what concerns more than one session."""

import operator
import os
import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Literal, TypeVar

from strands.types.session import Session, SessionType

from . import catalog, deletion, maintenance, search, session_fork
from . import metadata as session_metadata
from .catalog import Filter, SessionSummary
from .database import MOST, Database
from .identifiers import validate_id, validate_message_id
from .records import Records
from .search import MessageMatch

_Self = TypeVar("_Self", bound="SQLiteSessionRepository")


class SQLiteSessionRepository(Records):
    """All sessions of one SQLite file.

    It creates no session: use it to look after the file as a whole, and `SQLiteSessionManager` for an
    agent. It may be used from any thread, and need not be closed.

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
    ) -> None:
        """Open a database file, creating or upgrading it as needed.

        Args:
            db_path: The file; `~` is expanded, missing folders are created. None takes the environment
                variable `STRANDS_SQLITE_DB_PATH`, and without that `./sessions.db`. `:memory:` is a
                database of this object alone.
            synchronous: FULL: what was stored survives a power failure. NORMAL: faster; a power failure
                can undo the last moments, and never damages the file.
            timeout: Seconds to wait for another writer.
            connect: Opens a connection to a path, for a driver that encrypts, such as `sqlcipher3`; None takes
                `sqlite3`. It opens what `sqlite3.connect(path, check_same_thread=False)` would, with the key set.
                All that use a file at the same time in a process must give the same function.

        Raises:
            TypeError: If the path is not text, or `connect` is no function that gives a connection.
            ValueError: If the path is empty, or a setting is none that there is.
            SessionException: If the file cannot be opened, is not a database of this package, or was
                written by a newer version of it.
        """
        self._database = Database(db_path, synchronous=synchronous, timeout=timeout, connect=connect)

    def close(self) -> None:
        """Stop using the file. Its connections are closed when nothing in the process uses them."""
        self._database.close()

    def __enter__(self: _Self) -> _Self:
        """Return the object itself; the end of the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def list_sessions(
        self,
        *,
        metadata: Mapping[str, str] | None = None,
        updated_after: datetime | None = None,
        updated_before: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[SessionSummary]:
        """Return the sessions, newest activity first, as a list of conversations shows them.

        Args:
            metadata: Only those with all of these values.
            updated_after: Only those whose last activity is later than this; with a time zone.
            updated_before: Only those whose last activity is earlier than this; with a time zone.
            limit: How many at most; None is all.
            offset: How many to pass over first.

        Raises:
            TypeError: If the metadata hold anything but strings, a moment is no datetime, or a number no integer.
            ValueError: If a moment has no time zone, or a number is negative.
            SessionException: If the file cannot be read.
        """
        wanted = Filter.of(metadata, updated_after, updated_before)
        return catalog.list_sessions(self._database, wanted, limit=limit, offset=offset)

    def update_session_metadata(self, session_id: str, metadata: Mapping[str, str | None]) -> None:
        """Merge into what is known of a session.

        Args:
            session_id: The session's id.
            metadata: The new values by their keys; None removes a key.

        Raises:
            TypeError: If keys or values are anything but strings or None.
            ValueError: If the id is not allowed.
            SessionException: If there is no such session, or it cannot be written.
        """
        changes = session_metadata.checked(metadata, removable=True)
        validate_id(session_id, "session")
        with self._database.transaction() as connection:
            session_metadata.merge(connection, session_id, changes)

    def delete_sessions(
        self, *, metadata: Mapping[str, str] | None = None, updated_before: datetime | None = None
    ) -> int:
        """Delete all sessions with these metadata, or without activity for long, or both.

        They go one after the other, some in each transaction, so that others can write in between. Nothing that they
        held is left in the file and its log; to see to that takes the time to read the file, some 0.5 ms for each MB.

        Args:
            metadata: Only those with all of these values.
            updated_before: Only those whose last activity is earlier than this; with a time zone.

        Returns:
            How many were deleted.

        Raises:
            TypeError: If the metadata hold anything but strings, or the moment is no datetime.
            ValueError: If there is neither metadata nor a moment, or it has no time zone.
            SessionException: If they cannot be deleted.
        """
        if not metadata and updated_before is None:
            raise ValueError("metadata, updated_before | at least one is needed, or every session would be deleted")
        return deletion.delete_sessions(self._database, Filter.of(metadata, None, updated_before))

    def fork_session(
        self,
        session_id: str,
        new_session_id: str,
        *,
        agent_id: str | None = None,
        through_message: int | None = None,
    ) -> Session:
        """Copy a session under a new id, to continue an old conversation in a new direction.

        Metadata, agents, messages and orchestrators are copied; the original is not touched.

        Args:
            session_id: The session to copy.
            new_session_id: The id of the copy.
            agent_id: The agent whose messages `through_message` is about; not needed where there is only one.
            through_message: The id of the last message to copy of that agent. It resumes with exactly the messages up
                to that one: those that its conversation manager had removed are back, unless a summary in front of
                the message stands for them.

        Returns:
            The new session.

        Raises:
            ValueError: If an id is not allowed, there are several agents and none is named, or one is named for
                nothing.
            SessionException: If the session, agent or message does not exist, the new session exists, or it
                cannot be written.
        """
        for id_ in (session_id, new_session_id):
            validate_id(id_, "session")
        if agent_id is not None:
            validate_id(agent_id, "agent")
            if through_message is None:
                raise ValueError(f"agent_id={agent_id} | is for through_message; without it, all agents are copied")
        if through_message is not None:
            validate_message_id(through_message)
        session_type, now = session_fork.fork_session(
            self._database, session_id, new_session_id, agent_id=agent_id, through_message=through_message
        )
        return Session(new_session_id, SessionType(session_type), now, now)

    def search_messages(
        self, text: str, *, session_id: str | None = None, agent_id: str | None = None, limit: int | None = 50
    ) -> list[MessageMatch]:
        """Return the messages in which a text was said, newest first.

        Texts, reasoning, and the inputs and results of tools are searched, in any script and without regard to case.
        What was redacted is not found.

        Args:
            text: What to look for, as it is: there are no wildcards.
            session_id: Only in this session.
            agent_id: Only of agents with this id.
            limit: How many at most; None is all.

        Raises:
            TypeError: If the text is no string, or the limit no integer.
            ValueError: If the text is empty, an id is not allowed, or the limit is negative.
            SessionException: If the file cannot be read.
        """
        if not isinstance(text, str):
            raise TypeError(f"text=<{type(text).__name__}> | must be a string")
        if not text:
            raise ValueError("text | cannot be empty")
        if session_id is not None:
            validate_id(session_id, "session")
        if agent_id is not None:
            validate_id(agent_id, "agent")
        most = MOST if limit is None else min(operator.index(limit), MOST)
        if most < 0:
            raise ValueError(f"limit=<{limit}> | must not be negative")
        return search.search_messages(self._database, text, session_id=session_id, agent_id=agent_id, limit=most)

    def backup(
        self, destination: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Copy the database, as it is at this moment, to a new file, while others go on writing.

        The file appears under its name when it is complete. Only its owner can read it.

        Args:
            destination: The file to create.
            progress: Is called from time to time with the pages copied and the pages there are, of 4,096 bytes.

        Raises:
            TypeError: If the destination is not text.
            ValueError: If it is empty, or holds what a path cannot.
            SessionException: If the destination exists, or cannot be written.
        """
        maintenance.backup(self._database, destination, progress)

    def check(self) -> list[str]:
        """Examine the file: SQLite's integrity check, foreign keys, JSON, and the numbers of messages.

        Returns:
            A sentence for everything that is wrong, naming the rows; none if the file is healthy.

        Raises:
            SessionException: If the file cannot be read.
        """
        return maintenance.check(self._database)

    def vacuum(self) -> None:
        """Rewrite the file without unused space, which is given back to the file system.

        Others cannot write meanwhile, and it needs as much free space as the file has bytes, twice.

        Raises:
            SessionException: If there is no space, or others use the file for too long.
        """
        maintenance.vacuum(self._database)
