"""The stores of Strands' own managers, as repositories: building such a manager would create a session."""

import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn

import boto3
from strands.hooks import HookRegistry
from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.session.session_repository import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage

from .. import errors
from ..context.strands_private import agent_path, manager_without_session, session_path
from ..database.values import UnreadableError, decode

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

_SESSION, _AGENT, _MULTI_AGENT, _MESSAGE = "session_", "agent_", "multi_agent_", "message_"


class StoreRepository(SessionRepository):
    """All sessions of a store, through a session manager without an open session."""

    _use_instead = "the store's own session manager"

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    @abstractmethod
    def list_session_ids(self) -> list[str]:
        """Return the ids of all sessions."""

    @abstractmethod
    def list_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's agents."""

    @abstractmethod
    def list_multi_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators."""

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> NoReturn:
        """Refuse to serve as the session manager of an agent, a Graph or a Swarm.

        Raises:
            TypeError: Always; it names the managers that can serve.
        """
        raise TypeError(
            f"{type(self).__name__} is a repository, not a session manager: pass {self._use_instead}, or copy the"
            " session with copy_session and pass SQLiteSessionManager(session_id, db_path)"
        )

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Store a new session."""
        return self._manager.create_session(session, **kwargs)  # type: ignore[no-any-return]

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, or None if there is none."""
        return self._manager.read_session(session_id, **kwargs)  # type: ignore[no-any-return]

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete a session with everything in it."""
        self._manager.delete_session(session_id, **kwargs)

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store a new agent of a session."""
        self._manager.create_agent(session_id, session_agent, **kwargs)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent, or None if there is none."""
        return self._manager.read_agent(session_id, agent_id, **kwargs)  # type: ignore[no-any-return]

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Replace a stored agent."""
        self._manager.update_agent(session_id, session_agent, **kwargs)

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Store a new message of an agent."""
        self._manager.create_message(session_id, agent_id, session_message, **kwargs)

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Return a message, or None if there is none."""
        return self._manager.read_message(session_id, agent_id, message_id, **kwargs)  # type: ignore[no-any-return]

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Replace a stored message."""
        self._manager.update_message(session_id, agent_id, session_message, **kwargs)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return an agent's messages, in the order of their ids."""
        return self._manager.list_messages(session_id, agent_id, limit, offset, **kwargs)  # type: ignore[no-any-return]

    def create_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Store the state of an orchestrator."""
        self._manager.create_multi_agent(session_id, multi_agent, **kwargs)

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the state of an orchestrator, or None if there is none."""
        return self._manager.read_multi_agent(session_id, multi_agent_id, **kwargs)  # type: ignore[no-any-return]

    def update_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Replace the stored state of an orchestrator."""
        self._manager.update_multi_agent(session_id, multi_agent, **kwargs)


class FileSessionRepository(StoreRepository):
    """All sessions in a folder of Strands' `FileSessionManager`.

    It is a repository and creates no session: give an agent a `FileSessionManager`.

    Example:
        ```python
        for session_id in FileSessionRepository("/var/lib/my-app/sessions").list_session_ids():
            print(session_id)
        ```
    """

    _use_instead = "FileSessionManager(session_id, storage_dir=...)"

    def __init__(self, storage_dir: str | os.PathLike[str]) -> None:
        """Open a folder; it need not exist if you only write to it.

        Args:
            storage_dir: The folder. `~` is expanded.
        """
        self.storage_dir = os.path.abspath(os.path.expanduser(os.fspath(storage_dir)))
        super().__init__(manager_without_session(FileSessionManager, storage_dir=self.storage_dir))

    def list_session_ids(self) -> list[str]:
        """Return the ids of the sessions in the folder.

        Raises:
            SessionException: If the folder cannot be read.
        """
        try:
            return _folders(self.storage_dir, _SESSION, "session.json")
        except OSError as error:
            raise errors.SessionException(f"{self.storage_dir} | cannot be read: {error}") from error

    def list_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's agents."""
        folder = os.path.join(session_path(self._manager, session_id), "agents")
        return _folders_if_any(folder, _AGENT, "agent.json")

    def list_multi_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators."""
        folder = os.path.join(session_path(self._manager, session_id), "multi_agents")
        return _folders_if_any(folder, _MULTI_AGENT, "multi_agent.json")

    # These do not use the manager's own methods, which take several times as long.

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, or None if there is none."""
        path = os.path.join(session_path(self._manager, session_id), "session.json")
        if not os.path.exists(path):
            return None
        return _built(Session, path)  # type: ignore[no-any-return]

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent, or None if there is none."""
        path = os.path.join(agent_path(self._manager, session_id, agent_id), "agent.json")
        if not os.path.exists(path):
            return None
        return _built(SessionAgent, path)  # type: ignore[no-any-return]

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return an agent's messages, in the order of their ids."""
        folder = os.path.join(agent_path(self._manager, session_id, agent_id), "messages")
        if not os.path.isdir(folder):
            return []
        message_ids = {}
        for name in os.listdir(folder):
            if name.startswith(_MESSAGE) and name.endswith(".json"):
                message_id = name[len(_MESSAGE) : -len(".json")]
                if not message_id.removeprefix("-").isdecimal():
                    raise errors.SessionException(f"{folder}{os.sep}{name} | does not have the name of a message")
                message_ids[name] = int(message_id)
        names = sorted(message_ids, key=message_ids.__getitem__)
        return [
            _built(SessionMessage, f"{folder}{os.sep}{name}")
            for name in names[offset : None if limit is None else offset + limit]
        ]


class S3SessionRepository(StoreRepository):
    """All sessions in a bucket of Strands' `S3SessionManager`.

    It is a repository and creates no session: give an agent an `S3SessionManager`.

    Example:
        ```python
        for session_id in S3SessionRepository("my-bucket", "production").list_session_ids():
            print(session_id)
        ```
    """

    _use_instead = "S3SessionManager(session_id, bucket, prefix)"

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        client: Any = None,
    ) -> None:
        """Open a bucket.

        Args:
            bucket: The bucket's name.
            prefix: The prefix of the sessions' keys.
            region_name: The bucket's AWS region.
            endpoint_url: The URL of another S3-compatible server.
            client: A boto3 S3 client to use, instead of a new one for this region and URL.
        """
        self.bucket = bucket
        self.prefix = prefix
        self.client = client or boto3.Session(region_name=region_name).client("s3", endpoint_url=endpoint_url)
        super().__init__(manager_without_session(S3SessionManager, bucket=bucket, prefix=prefix, client=self.client))

    def list_session_ids(self) -> list[str]:
        """Return the ids of the sessions in the bucket.

        Raises:
            SessionException: If the bucket cannot be read.
        """
        return self._names(session_path(self._manager, "x").removesuffix("x/"))

    def list_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's agents."""
        return self._names(f"{session_path(self._manager, session_id)}agents/{_AGENT}")

    def list_multi_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators."""
        return self._names(f"{session_path(self._manager, session_id)}multi_agents/{_MULTI_AGENT}")

    def _names(self, prefix: str) -> list[str]:
        """Return what comes between a prefix and the next slash in the keys of the bucket."""
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            )
            return [common["Prefix"][len(prefix) : -1] for page in pages for common in page.get("CommonPrefixes", ())]
        except Exception as error:  # botocore's exceptions share no other base
            raise errors.SessionException(f"s3://{self.bucket}/{self.prefix} | cannot be listed: {error}") from error


def _folders(path: str, prefix: str, containing: str) -> list[str]:
    return sorted(
        entry.name[len(prefix) :]
        for entry in os.scandir(path)
        if entry.name.startswith(prefix) and os.path.isfile(os.path.join(entry.path, containing))
    )


def _folders_if_any(path: str, prefix: str, containing: str) -> list[str]:
    return _folders(path, prefix, containing) if os.path.isdir(path) else []


def _built(kind: Any, path: str) -> Any:
    """Build one of Strands' records from its file, ignoring unknown keys as upstream does."""
    data = _read(path)
    try:
        return kind(**{key: data[key] for key in kind.__dataclass_fields__ if key in data})
    except TypeError as error:
        raise errors.SessionException(f"{path} | cannot be read: {error}") from error


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:  # a third faster than as text
            value = decode(file.read().decode(), path)
    except (OSError, UnicodeDecodeError, UnreadableError) as error:
        errors.without_content(error)
        raise errors.SessionException(f"{path} | cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise errors.SessionException(f"{path} | cannot be read: it is not a JSON object")
    return value


def _open(path: str, flags: int) -> int:
    """Open a file, but not a link: anyone who can plant one could choose what is copied. Do not wait for a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
