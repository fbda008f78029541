"""The stores of other managers, opened as a whole: constructing one of those managers creates a session."""

import os
from typing import Any

import boto3
from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

from .codec import decode
from .errors import UnreadableError, without_content

_SESSION, _AGENT, _MULTI_AGENT, _MESSAGE = "session_", "agent_", "multi_agent_", "message_"


class FileSessionRepository(FileSessionManager):
    """A folder of Strands' `FileSessionManager`; it creates no session.

    Example:
        ```python
        for session_id in FileSessionRepository("/var/lib/my-app/sessions").list_session_ids():
            print(session_id)
        ```
    """

    def __init__(self, storage_dir: str | os.PathLike[str]) -> None:
        """Open a folder; it need not exist, if it is to be written to.

        Args:
            storage_dir: The folder.
        """
        self.storage_dir = os.path.abspath(os.path.expanduser(os.fspath(storage_dir)))

    def list_session_ids(self) -> list[str]:
        """Return the ids of the sessions in the folder.

        Raises:
            SessionException: If the folder cannot be read.
        """
        try:
            return _folders(self.storage_dir, _SESSION, "session.json")
        except OSError as error:
            raise SessionException(f"{self.storage_dir} | cannot be read: {error}") from error

    def list_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's agents."""
        return _folders_if_any(os.path.join(self._get_session_path(session_id), "agents"), _AGENT, "agent.json")

    def list_multi_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators."""
        folder = os.path.join(self._get_session_path(session_id), "multi_agents")
        return _folders_if_any(folder, _MULTI_AGENT, "multi_agent.json")

    # The methods of `FileSessionManager` take several times as long as reading and parsing the files.

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, or None where there is none."""
        path = os.path.join(self._get_session_path(session_id), "session.json")
        if not os.path.exists(path):
            return None
        return _built(Session, path)  # type: ignore[no-any-return]

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent, or None where there is none."""
        path = os.path.join(self._get_agent_path(session_id, agent_id), "agent.json")
        if not os.path.exists(path):
            return None
        return _built(SessionAgent, path)  # type: ignore[no-any-return]

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return an agent's messages, in the order of their ids."""
        folder = os.path.join(self._get_agent_path(session_id, agent_id), "messages")
        if not os.path.isdir(folder):
            return []
        numbers = {}
        for name in os.listdir(folder):
            if name.startswith(_MESSAGE) and name.endswith(".json"):
                number = name[len(_MESSAGE) : -len(".json")]
                if not number.removeprefix("-").isdecimal():
                    raise SessionException(f"{folder}{os.sep}{name} | is not named like a message")
                numbers[name] = int(number)
        names = sorted(numbers, key=numbers.__getitem__)
        messages = []
        for name in names[offset : None if limit is None else offset + limit]:
            messages.append(_built(SessionMessage, f"{folder}{os.sep}{name}"))
        return messages


class S3SessionRepository(S3SessionManager):
    """A bucket of Strands' `S3SessionManager`; it creates no session.

    Example:
        ```python
        for session_id in S3SessionRepository("my-bucket", "production").list_session_ids():
            print(session_id)
        ```
    """

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
            prefix: What the keys of the sessions begin with.
            region_name: The bucket's AWS region.
            endpoint_url: Another server that speaks S3.
            client: An S3 client of boto3 to use, in place of the last two.
        """
        self.bucket = bucket
        self.prefix = prefix
        self.client = client or boto3.Session(region_name=region_name).client("s3", endpoint_url=endpoint_url)

    def list_session_ids(self) -> list[str]:
        """Return the ids of the sessions in the bucket.

        Raises:
            SessionException: If the bucket cannot be read.
        """
        return self._names(self._get_session_path("x").removesuffix("x/"))

    def list_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's agents."""
        return self._names(f"{self._get_session_path(session_id)}agents/{_AGENT}")

    def list_multi_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators."""
        return self._names(f"{self._get_session_path(session_id)}multi_agents/{_MULTI_AGENT}")

    def _names(self, prefix: str) -> list[str]:
        """Return what comes between a prefix and the next slash in the keys of the bucket."""
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            )
            return [common["Prefix"][len(prefix) : -1] for page in pages for common in page.get("CommonPrefixes", ())]
        except Exception as error:
            # botocore's exceptions have no type in common but this.
            raise SessionException(f"s3://{self.bucket}/{self.prefix} | cannot be listed: {error}") from error


def _folders(path: str, prefix: str, holding: str) -> list[str]:
    return sorted(
        entry.name[len(prefix) :]
        for entry in os.scandir(path)
        if entry.name.startswith(prefix) and os.path.isfile(os.path.join(entry.path, holding))
    )


def _folders_if_any(path: str, prefix: str, holding: str) -> list[str]:
    return _folders(path, prefix, holding) if os.path.isdir(path) else []


def _built(kind: Any, path: str) -> Any:
    """Build one of Strands' records from its file; what else is in the file is left out, as upstream does."""
    data = _read(path)
    try:
        return kind(**{key: data[key] for key in kind.__dataclass_fields__ if key in data})
    except TypeError as error:
        raise SessionException(f"{path} | cannot be read: {error}") from error


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:  # a third faster than as text
            value = decode(file.read().decode(), path)
    except (OSError, UnicodeDecodeError, UnreadableError) as error:
        without_content(error)
        raise SessionException(f"{path} | cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise SessionException(f"{path} | cannot be read: it is not a JSON object")
    return value


def _open(path: str, flags: int) -> int:
    """Open a file, but no link: whoever can plant one would choose what is copied. A pipe is not waited for."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
