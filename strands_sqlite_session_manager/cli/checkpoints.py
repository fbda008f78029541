"""Commands about earlier moments of a conversation: fork, rewind, forks, and `show --context`."""

import argparse
from collections import defaultdict

from .. import errors
from ..database.database import Database
from ..database.identifiers import validate_id
from ..database.values import encode
from ..sessions.fork import agent_named, fork_session
from ..sessions.rewind import rewind_session
from . import output
from .confirmation import confirm
from .conversation import FORMATS, Said, read_conversation
from .ids import full_id, session_of
from .summaries import counted


def fork(database: Database, arguments: argparse.Namespace) -> None:
    """Copy a session under a new id."""
    source = full_id(database, arguments.source)
    fork_session(
        database,
        source,
        arguments.new,
        agent_id=arguments.agent,
        through_message=arguments.through,
        metadata={key: value or None for key, value in arguments.metadata},
    )
    print(f"forked {output.safe(source)} to {output.safe(arguments.new)}")


def rewind(database: Database, arguments: argparse.Namespace) -> None:
    """Take a session back to a message."""
    agent_id = _agent(database, arguments)
    said = list(read_conversation(database, arguments.session, agent_id))
    if arguments.through != -1 and all(each.message_id != arguments.through for each in said):
        raise errors.SessionNotFoundException(
            f"Message {arguments.through} of agent {agent_id} in session {arguments.session} does not exist"
        )
    doomed = [each for each in said if each.message_id is not None and each.message_id > arguments.through]

    def show() -> None:
        for each in doomed:
            FORMATS["text"](arguments.session, each, False)

    if confirm(counted(len(doomed), "message"), show, arguments):
        deleted = rewind_session(database, arguments.session, arguments.through, agent_id)
        print(f"deleted {counted(deleted, 'message')}")


def forks(database: Database, arguments: argparse.Namespace) -> None:
    """Print the forks of a session, their forks, and so on."""
    children: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
    for session_id, forked_from, forked_through in database.read(
        "SELECT session_id, forked_from, forked_through FROM sessions WHERE forked_from IS NOT NULL"
        " ORDER BY created_at, session_id"
    ):
        children[forked_from].append((session_id, forked_through))
    # The id of a deleted session must not match as the beginning of another one.
    root = arguments.session if arguments.session in children else session_of(database, arguments)
    exists = database.read("SELECT 1 FROM sessions WHERE session_id = ?", (root,))
    if not exists and root not in children:
        raise errors.SessionNotFoundException(f"Session {root} does not exist")
    if not arguments.json:
        print(output.safe(root) + ("" if exists else "  (deleted)"))
    known = {root}
    waiting = [(root, child, 1) for child in reversed(children[root])]
    while waiting:
        parent, (session_id, through), depth = waiting.pop()
        if session_id in known:  # the id of a deleted session that was used again
            continue
        known.add(session_id)
        if arguments.json:
            output.print_json({"session_id": session_id, "forked_from": parent, "forked_through": through})
        else:
            where = "" if through is None else f"  through message {through}"
            print(f"{'  ' * depth}{output.safe(session_id)}{where}")
        waiting += [(session_id, child, depth + 1) for child in reversed(children[session_id])]


def show_context(database: Database, arguments: argparse.Namespace) -> None:
    """Print the context of an agent, now or when a message was the last one."""
    from ..sessions.records import read_context  # it repairs tool calls with Strands, which takes long to import

    agent_id = _agent(database, arguments)
    for message in read_context(database, arguments.session, agent_id, arguments.through):
        said = Said(agent_id, None, None, False, encode(message, "message"), message)
        FORMATS["json" if arguments.json else arguments.format](arguments.session, said, False)


def _agent(database: Database, arguments: argparse.Namespace) -> str:
    session_id = validate_id(arguments.session, "session")
    if not database.read("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)):
        raise errors.SessionNotFoundException(f"Session {session_id} does not exist")
    return database.snapshot(lambda connection: agent_named(connection, session_id, arguments.agent))
