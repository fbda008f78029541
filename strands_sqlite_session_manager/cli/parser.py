"""The commands and options of the command line, and their help."""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..database import files
from . import attachments, checkpoints, editing, jsonl, maintenance, queries, reading, storage, times
from .completion import SCRIPTS, completion
from .conversation import FORMATS
from .copy import copy
from .opening import CONNECT_VARIABLE, on_database
from .output import safe
from .paging import SCREENFUL
from .usage import usage_

_SHORT_HELP = f"""\
usage: strands-sqlite [--db PATH] COMMAND ...

  list     list sessions, newest activity first
  show     show a session as a conversation
  search   find messages by their text
  usage    show how many tokens were used
  backup   copy the file while it is in use

The file is --db PATH, else ${files.ENVIRONMENT_VARIABLE}, else {files.DEFAULT_PATH}.

example:
  strands-sqlite show --last

All commands: strands-sqlite --help. One of them: strands-sqlite show --help."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments, escaped, and exit with 2."""
        super().error(safe(message))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse an unknown command, and suggest the nearest one instead of listing all."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            import difflib

            nearest = difflib.get_close_matches(str(value), action.choices, 1, 0.5)
            instead = f"did you mean {nearest[0]!r}?" if nearest else f"{self.prog} --help lists all"
            raise argparse.ArgumentError(None, f"unknown command {value!r}: {instead}")
        super()._check_value(action, value)


@functools.cache  # building it takes longer than most commands
def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="strands-sqlite",
        description="Inspect and manage Strands sessions in a SQLite file.",
        epilog=_example("strands-sqlite --db sessions.db list"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_db(parser, None)
    _add_no_pager(parser, False)
    parser.set_defaults(run=_print_short_help)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")

    reads = functools.partial(on_database, read_only=True)
    writes = functools.partial(on_database, read_only=False)

    def add(
        name: str,
        run: Callable[[argparse.Namespace], None],
        help_: str,
        *examples: str,
        is_paged: bool = False,
        aliases: Sequence[str] = (),
    ) -> argparse.ArgumentParser:
        command = subparsers.add_parser(
            name,
            aliases=aliases,
            help=help_,
            description=f"{help_[0].upper()}{help_[1:]}.",
            epilog=_example(*(f"strands-sqlite {example}" for example in examples)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_db(command, argparse.SUPPRESS)
        command.set_defaults(run=run, is_paged=is_paged)
        if is_paged:
            _add_no_pager(command, argparse.SUPPRESS)
        return command

    command = add(
        "list",
        reads(reading.list_),
        "list sessions, newest activity first",
        "list",
        "list --metadata user_id=42 -n 20 --json",
        "list --since 7d --long",
        is_paged=True,
        aliases=("ls",),
    )
    _add_metadata(command)
    _add_limit(command, "sessions")
    _add_times(command, "only sessions whose last activity was")
    command.add_argument("--long", action="store_true", help="show whole ids and all metadata")
    _add_json(command)

    command = add(
        "show",
        reads(reading.show),
        "show a session as a conversation",
        "show my-session",
        "show --last",
        "show my-session --agent writer -n 10",
        "show my-session --format markdown > conversation.md",
        "show my-session --context --through 12",
        "show --last --follow",
        is_paged=True,
    )
    _add_session_to_read(command)
    command.add_argument("--agent", metavar="AGENT", help="only the messages of this agent")
    command.add_argument("--follow", action="store_true", help="keep printing new messages, until Control-C")
    _add_limit(command, "messages at the end")
    _add_times(command, "only messages")
    command.add_argument("--full", action="store_true", help="show tool inputs and results in full")
    command.add_argument("--times", action="store_true", help="show the time of each message")
    command.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: text")
    command.add_argument("--context", action="store_true", help="show the agent's context: trimmed, edited, summarized")
    command.add_argument(
        "--through", metavar="N", type=int, help="with --context: as it was when message N was the last"
    )
    _add_json(command)

    command = add(
        "search",
        reads(reading.search),
        "find messages by their text, newest first",
        'search "invoice 4711"',
        "search refund --session my-session --json",
        "search refund --metadata user_id=42",
        is_paged=True,
    )
    command.add_argument("text", metavar="TEXT", help="the text to find, ignoring case")
    command.add_argument("--session", metavar="SESSION", help="only in this session; the beginning of its id is enough")
    command.add_argument("--agent", metavar="AGENT", help="only messages of agents with this id")
    _add_metadata(command)
    _add_limit(command, "messages")
    _add_times(command, "only messages")
    _add_json(command)

    command = add(
        "usage",
        reads(usage_),
        "show how many tokens were used",
        "usage",
        "usage --by user_id --since 30d",
        "usage --by day --metadata user_id=42 --json",
        is_paged=True,
    )
    command.add_argument(
        "--by",
        metavar="WHAT",
        default="session",
        help="session, agent, day, month, role, or a metadata key (default: session)",
    )
    _add_metadata(command)
    _add_times(command, "only what was said")
    _add_json(command)

    command = add(
        "sql",
        reads(queries.sql),
        "run your own query, which can only read",
        'sql "SELECT session_id, count(*) AS messages FROM messages GROUP BY session_id"',
        'sql "SELECT * FROM usage" --csv > usage.csv',
        is_paged=True,
    )
    command.add_argument("query", metavar="QUERY", help="one SELECT; the guide to SQL describes tables and views")
    command.add_argument("--csv", action="store_true", help="print comma-separated values")
    _add_json(command)

    command = add(
        "attachments",
        reads(attachments.attachments),
        "write the pictures and documents of a session to files",
        "attachments my-session -o pictures",
    )
    _add_session_to_read(command)
    command.add_argument("--agent", metavar="AGENT", help="only attachments of this agent")
    command.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder, created if it is missing")

    command = add("stats", reads(maintenance.stats), "show what the file holds", "stats", "stats --json")
    _add_json(command)

    command = add(
        "fork",
        writes(checkpoints.fork),
        "copy a session under a new id, to continue it in another direction",
        "fork my-session my-session-2",
        "fork my-session my-session-2 --through 12 --agent writer",
        "fork my-session my-session-2 --metadata share=",
    )
    command.add_argument("source", metavar="SOURCE", help="the session to copy; the beginning of its id is enough")
    command.add_argument("new", metavar="NEW", help="the id of the copy")
    command.add_argument("--through", metavar="N", type=int, help="the last message of the agent to copy")
    command.add_argument("--agent", metavar="AGENT", help="the agent that --through refers to, if there are several")
    _add_metadata(command, "change the copied metadata; KEY= removes a key")

    command = add(
        "rewind",
        writes(checkpoints.rewind),
        "delete what came after a message, and restore what the agent had then",
        "rewind my-session --through 12 --dry-run",
        "rewind my-session --through 12 --agent writer --yes",
    )
    command.add_argument("session", metavar="SESSION", help="the session's id")
    command.add_argument(
        "--through", metavar="N", type=int, required=True, help="the last message to keep; -1 keeps none"
    )
    command.add_argument("--agent", metavar="AGENT", help="the agent to rewind, if there are several")
    _add_confirmation(command)

    command = add("forks", reads(checkpoints.forks), "show the forks of a session as a tree", "forks my-session")
    _add_session_to_read(command)
    _add_json(command)

    command = add(
        "delete",
        writes(editing.delete),
        "delete sessions with everything in them",
        "delete my-session another-session",
        "delete my-session --yes",
        "delete --metadata user_id=42",
    )
    command.add_argument("session", metavar="SESSION", nargs="*", help="the sessions' ids")
    _add_metadata(command)
    _add_confirmation(command)

    command = add(
        "prune",
        writes(editing.prune),
        "delete sessions that have been inactive for some time",
        "prune --older-than 30d --dry-run",
        "prune --older-than 30d --metadata app=demo --yes",
    )
    command.add_argument(
        "--older-than", metavar="AGE", type=times.age, required=True, help="such as 90m, 12h, 30d or 4w"
    )
    _add_metadata(command)
    _add_confirmation(command)

    command = add(
        "tag",
        writes(editing.tag),
        "change the metadata of a session; KEY= removes a key",
        "tag my-session user_id=42 app=web",
        "tag my-session app=",
    )
    command.add_argument("session", metavar="SESSION", help="the session's id")
    command.add_argument(
        "pairs", metavar="KEY=VALUE", type=_pair, nargs="+", help="a new value, or no value to remove the key"
    )

    command = add(
        "export",
        reads(jsonl.export),
        "write sessions as JSON Lines",
        "export --all > sessions.jsonl",
        "export my-session -o my-session.jsonl",
        "export --metadata user_id=42 -o user-42.jsonl",
    )
    command.add_argument("session", metavar="SESSION", nargs="*", help="the sessions' ids")
    _add_metadata(command)
    command.add_argument("--all", action="store_true", help="all sessions")
    command.add_argument("--last", action="store_true", help="the session with the newest activity")
    command.add_argument("-o", "--output", metavar="FILE", help="the file to create (default: standard output)")

    command = add(
        "import",
        jsonl.import_,
        "read sessions from an export",
        "import sessions.jsonl",
        "--db new.db import --create sessions.jsonl",
    )
    command.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: standard input")
    command.add_argument("--replace", action="store_true", help="replace sessions that already exist")
    command.add_argument("--create", action="store_true", help="create the database if it does not exist")

    command = add(
        "copy",
        copy,
        "copy sessions between stores",
        "copy file:/var/lib/my-app/sessions sessions.db --all",
        "copy s3://my-bucket/production sessions.db --all --skip-existing --region eu-central-1",
        "copy sessions.db postgresql://user:password@host/agents my-session",
        "copy sessions.db user-42.db --metadata user_id=42",
    )
    command.description = (
        "Copy sessions between stores. A store is file:DIR (Strands' FileSessionManager),\n"
        "s3://BUCKET/PREFIX (S3SessionManager), snapshots:PLACE (SnapshotSessionManager),\n"
        "postgresql://... (strands-postgresql-session-manager) or the path of a SQLite file."
    )
    command.add_argument("source", metavar="FROM", help="the store to copy from")
    command.add_argument("target", metavar="TO", help="the store to copy to")
    command.add_argument("session", metavar="SESSION", nargs="*", help="the sessions' ids")
    _add_metadata(command)
    command.add_argument("--all", action="store_true", help="all sessions")
    command.add_argument("--skip-existing", action="store_true", help="skip sessions that the target already has")
    command.add_argument("--endpoint-url", metavar="URL", help="the URL of another S3-compatible server")
    command.add_argument("--region", metavar="REGION", help="the AWS region")

    command = add(
        "storage",
        on_database(storage.list_, read_only=True),
        "manage what SQLiteStorage keeps: snapshots, offloaded context, memory",
        "storage list session/ --since 7d",
        "storage get memory/notes.md > notes.md",
        "storage delete session/my-session/ --yes",
    )
    _add_storage_commands(command)

    command = add(
        "backup", reads(maintenance.backup), "copy the file while it is in use", "backup /backups/sessions-monday.db"
    )
    command.add_argument("destination", metavar="DEST", help="the file to create")

    command = add("check", reads(maintenance.check), "examine the file for damage", "check")
    _add_json(command)

    add(
        "vacuum",
        writes(maintenance.vacuum),
        "rewrite the file without unused space or traces of what was deleted",
        "vacuum",
    )

    command = add(
        "completion",
        completion,
        "print a script that completes commands, options and session ids in a shell",
        "completion bash",
    )
    command.description = (
        "Print a script that completes commands, options and session ids in a shell.\n\n"
        "bash:  echo 'eval \"$(strands-sqlite completion bash)\"' >> ~/.bashrc\n"
        "zsh:   echo 'eval \"$(strands-sqlite completion zsh)\"' >> ~/.zshrc    (after compinit)\n"
        "fish:  strands-sqlite completion fish > ~/.config/fish/completions/strands-sqlite.fish"
    )
    command.add_argument("shell", choices=tuple(SCRIPTS), help="the shell")
    command.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    return parser


def _add_storage_commands(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], None], help_: str) -> argparse.ArgumentParser:
        command = subparsers.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
        _add_db(command, argparse.SUPPRESS)
        command.set_defaults(run=run)
        return command

    command = add(
        "list", on_database(storage.list_, read_only=True), "list keys, their sizes, and when they were written"
    )
    command.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="only keys that begin with this")
    command.set_defaults(is_paged=True)
    _add_no_pager(command, argparse.SUPPRESS)
    _add_limit(command, "keys")
    _add_times(command, "only keys that were written")
    _add_json(command)

    command = add("get", on_database(storage.get, read_only=True), "write the value under a key to standard output")
    command.add_argument("key", metavar="KEY", help="the key")

    command = add("delete", on_database(storage.delete, read_only=False), "delete keys with their values")
    command.add_argument("key", metavar="KEY", help="the key; with a / at its end, all keys that begin with it")
    _add_confirmation(command)


def _print_short_help(arguments: argparse.Namespace) -> None:
    print(_SHORT_HELP)


def _add_db(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--db",
        metavar="PATH",
        default=default,
        help=f"the file (default: ${files.ENVIRONMENT_VARIABLE}, or {files.DEFAULT_PATH})",
    )
    parser.add_argument(
        "--connect",
        metavar="MODULE:FUNCTION",
        default=default,
        help=f"a function that opens an encrypted file (default: ${CONNECT_VARIABLE})",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON Lines, an object on each line, for programs")


def _add_limit(parser: argparse.ArgumentParser, what: str) -> None:
    default = f"{SCREENFUL} on a terminal, all elsewhere"
    parser.add_argument(
        "-n", "--limit", metavar="N", type=_count, help=f"at most N {what}; 0 shows all (default: {default})"
    )


def _add_no_pager(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--no-pager", action="store_true", default=default, help="do not show long output in a pager ($PAGER, or less)"
    )


def _add_metadata(parser: argparse.ArgumentParser, what: str = "only sessions with this value") -> None:
    parser.add_argument(
        "--metadata", metavar="KEY=VALUE", type=_pair, action="append", default=[], help=f"{what}; may be repeated"
    )


def _add_session_to_read(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "session", metavar="SESSION", nargs="?", help="the session's id, or its beginning if that is unique"
    )
    parser.add_argument("--last", action="store_true", help="the session with the newest activity")


def _add_times(parser: argparse.ArgumentParser, what: str) -> None:
    when = "this moment: an age such as 2h or 7d, or a date such as 2026-05-01"
    parser.add_argument("--since", metavar="WHEN", type=times.moment, help=f"{what} after {when}")
    parser.add_argument("--before", metavar="WHEN", type=times.moment, help=f"{what} before {when}")


def _add_confirmation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be deleted")


def _pair(argument: str) -> tuple[str, str]:
    key, equals, value = argument.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, not {argument!r}")
    return key, value


def _count(argument: str) -> int:
    if not argument.isdecimal():
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {argument!r}")
    return int(argument)


def _example(*lines: str) -> str:
    heading = "example:" if len(lines) == 1 else "examples:"
    return "\n".join([heading, *(f"  {line}" for line in lines)])
