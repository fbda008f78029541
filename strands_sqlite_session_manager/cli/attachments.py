"""The command that writes the pictures and documents of a session to files: `attachments`."""

import argparse
import os
import re
from collections.abc import Iterator
from typing import Any

from ..database.database import Database
from ..database.files import check_path, new_file
from ..sessions.text import ATTACHMENTS
from . import output
from .conversation import read_conversation
from .errors import CommandError
from .ids import session_of
from .summaries import counted, summaries_of

_UNSAFE_IN_NAMES = re.compile(r"[^\w.-]+")


def attachments(database: Database, arguments: argparse.Namespace) -> None:
    """Write the attachments of a session to a folder, one file for each."""
    session_id = session_of(database, arguments)
    summaries_of(database, [session_id])
    folder = os.path.abspath(os.path.expanduser(check_path(arguments.output, "--output")))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    count = 0
    for said in read_conversation(database, session_id, arguments.agent):
        for number, (name, content) in enumerate(_attached(said.message)):
            path = os.path.join(folder, f"{_safe(said.agent_id)}-{said.message_id}-{number}-{_safe(name)}")
            try:
                with new_file(path) as partial, open(partial, "wb") as file:
                    file.write(content)
            except FileExistsError as error:
                raise CommandError(f"{path} | exists already: choose an empty folder") from error
            print(output.safe(path))
            count += 1
    print(f"{counted(count, 'attachment')} written")


def _attached(message: Any) -> Iterator[tuple[str, bytes]]:
    """Return the names and contents of a message's attachments, including those inside tool results."""
    blocks = message.get("content") if isinstance(message, dict) else None
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, dict):
            continue
        yield from _attached(block.get("toolResult"))
        for kind in ATTACHMENTS:
            attachment = block.get(kind)
            source = attachment.get("source") if isinstance(attachment, dict) else None
            content = source.get("bytes") if isinstance(source, dict) else None
            if isinstance(attachment, dict) and isinstance(content, bytes):
                name, format_ = attachment.get("name"), attachment.get("format")
                stem = name if isinstance(name, str) else kind
                yield f"{stem}.{format_ if isinstance(format_, str) else 'bin'}", content


def _safe(name: str) -> str:
    """Return a part of a file's name that cannot lead to another folder."""
    return _UNSAFE_IN_NAMES.sub("_", name)[:80].lstrip(".") or "_"
