"""Where an agent's session can be: the session managers of this package and of Strands, and the least that stores it.

`S3SessionManager` talks to moto's server in a process of its own, over HTTP on this machine.
"""

import itertools
import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import boto3
from strands import Agent
from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.session.session_manager import SessionManager
from strands.types.content import Message

from strands_sqlite_session_manager import SQLiteSessionManager

from .contenders import connect_to_append
from .filling import AGENT_ID, INSERT_MESSAGE, fill_database, row, session_ids
from .names import BARE, FILES, MODES, OURS, S3, SNAPSHOTS, Synchronous

DATABASE = "sessions.db"
BUCKET = "sessions"
(SESSION,) = session_ids(1)
NEWEST = "SELECT message FROM messages WHERE session_id = ? AND agent_id = ? ORDER BY message_id DESC LIMIT ?"
Open = Callable[[Path, str], SessionManager]


class BareSessionManager(SessionManager):
    """Only inserts an agent's messages into a table of its own file, and reads what its window holds."""

    def __init__(self, session_id: str, path: Path, synchronous: Synchronous) -> None:
        self.session_id = session_id
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fill_database(path, 1, history=0)
        self._connection = connect_to_append(path, synchronous)
        self._ids = itertools.count(self._connection.execute("SELECT count(*) FROM messages").fetchone()[0])

    def initialize(self, agent: Agent, **kwargs: Any) -> None:
        for message in agent.messages:
            self.append_message(message, agent)
        window = getattr(agent.conversation_manager, "window_size", -1)
        found = self._connection.execute(NEWEST, (self.session_id, AGENT_ID, window)).fetchall()
        agent.messages[:] = [json.loads(text) for (text,) in reversed(found)]

    def append_message(self, message: Message, agent: Agent, **kwargs: Any) -> None:
        self._connection.execute(INSERT_MESSAGE, row(self.session_id, next(self._ids), message))

    def sync_agent(self, agent: Agent, **kwargs: Any) -> None:
        """Forget the agent's state."""

    def redact_latest_message(self, redact_message: Message, agent: Agent, **kwargs: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._connection.close()


def close(manager: SessionManager | None) -> None:
    """Close a session manager, if it is one that can be closed."""
    if isinstance(manager, (BareSessionManager, SQLiteSessionManager)):
        manager.close()


class S3Server(NamedTuple):
    """An S3 server with a bucket."""

    boto_session: boto3.Session

    def open(self, folder: Path, session_id: str) -> S3SessionManager:
        """Open a session whose objects are named as if they were in a folder."""
        return S3SessionManager(
            session_id,
            bucket=BUCKET,
            prefix=folder.as_posix().strip("/"),
            boto_session=self.boto_session,
        )

    def sizes(self, folder: Path) -> Iterator[int]:
        """Yield the bytes of every object there."""
        client = self.boto_session.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=folder.as_posix().strip("/"))
        for page in pages:
            for found in page.get("Contents", ()):
                yield found["Size"]


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a server for a while, and have boto3 use it; older versions of `S3SessionManager` take no address."""
    ours, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(its,), daemon=True)
    process.start()
    its.close()
    try:
        with patch.dict(os.environ, AWS_ENDPOINT_URL_S3=ours.recv()):
            boto_session = boto3.Session("testing", "testing", region_name="us-east-1")
            boto_session.client("s3").create_bucket(Bucket=BUCKET)
            yield S3Server(boto_session)
    finally:
        ours.close()
        process.join()


def _serve(pipe: Connection) -> None:
    """Run a server until the other side of the pipe is closed."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it reports every request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    pipe.send(f"http://{host}:{port}")
    try:
        pipe.recv()
    except EOFError:
        server.stop()


def bare_stores() -> dict[str, Open]:
    """Return how to open the only session of a file of bare SQLite."""
    return {BARE[mode]: partial(_open_bare, mode) for mode in MODES}


def stores(server: S3Server) -> dict[str, Open]:
    """Return how to open a session of a folder with each of the session managers that there are."""
    openers: dict[str, Open] = {OURS[mode]: partial(_open_ours, mode) for mode in MODES}
    openers[FILES] = lambda folder, session_id: FileSessionManager(session_id, str(folder))
    openers[S3] = server.open
    try:
        from strands.session.snapshot_session_manager import SnapshotSessionManager
        from strands.storage import LocalFileStorage
    except ImportError:  # this Strands has none yet
        return openers
    openers[SNAPSHOTS] = lambda folder, session_id: SnapshotSessionManager(
        session_id, storage=LocalFileStorage(str(folder))
    )
    return openers


def _open_bare(mode: Synchronous, folder: Path, session_id: str) -> SessionManager:
    return BareSessionManager(session_id, folder / DATABASE, mode)


def _open_ours(mode: Synchronous, folder: Path, session_id: str) -> SessionManager:
    return SQLiteSessionManager(session_id, folder / DATABASE, synchronous=mode)
