"""What the command line takes, and the help that explains it."""

import argparse
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

from .. import __version__, files
from ..database import MOST
from . import commands
from .conversation import FORMATS
from .copy import copy
from .output import safe

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, which may hold anything, and end with 2."""
        super().error(safe(message))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="strands-sqlite",
        description="Look after a SQLite file of Strands sessions.",
        epilog=_example("strands-sqlite --db sessions.db list"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_db(parser, None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[..., None], help_: str, *examples: str, read_only: bool
    ) -> argparse.ArgumentParser:
        command = subparsers.add_parser(
            name,
            help=help_,
            description=f"{help_[0].upper()}{help_[1:]}.",
            epilog=_example(*(f"strands-sqlite {example}" for example in examples)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_db(command, argparse.SUPPRESS)
        command.set_defaults(run=run, read_only=read_only, opens=True)
        return command

    command = add(
        "list",
        commands.list_,
        "list the sessions, newest activity first",
        "list",
        "list --metadata user_id=42 --limit 20 --json",
        read_only=True,
    )
    _add_metadata(command)
    _add_limit(command, MOST, "how many sessions at most (default: all)")
    _add_json(command)

    command = add(
        "show",
        commands.show,
        "show a session as a conversation",
        "show my-session",
        "show my-session --agent writer --limit 10",
        "show my-session --format markdown > conversation.md",
        read_only=True,
    )
    command.add_argument("session", metavar="SESSION", help="the session's id")
    command.add_argument("--agent", metavar="AGENT", help="only what this agent was told and said")
    _add_limit(command, MOST, "only the last messages (default: all)")
    command.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: text")
    _add_json(command)

    command = add(
        "search",
        commands.search_,
        "find messages by what was said, newest first",
        'search "invoice 4711"',
        "search refund --session my-session --json",
        read_only=True,
    )
    command.add_argument("text", metavar="TEXT", help="what to look for, without regard to case")
    command.add_argument("--session", metavar="SESSION", help="only in this session")
    command.add_argument("--agent", metavar="AGENT", help="only of agents with this id")
    _add_limit(command, 50, "how many messages at most (default: 50)")
    _add_json(command)

    command = add("stats", commands.stats, "tell what the file holds", "stats", "stats --json", read_only=True)
    _add_json(command)

    command = add(
        "fork",
        commands.fork,
        "copy a session under a new id, to continue it in another direction",
        "fork my-session my-session-2",
        "fork my-session my-session-2 --through 12 --agent writer",
        read_only=False,
    )
    command.add_argument("source", metavar="SOURCE", help="the session to copy")
    command.add_argument("new", metavar="NEW", help="the id of the copy")
    command.add_argument("--through", metavar="N", type=int, help="the last message to copy of the agent")
    command.add_argument("--agent", metavar="AGENT", help="whose message that is, where there are several agents")

    command = add(
        "delete",
        commands.delete,
        "delete sessions, with what they hold",
        "delete my-session another-session",
        "delete my-session --yes",
        read_only=False,
    )
    command.add_argument("session", metavar="SESSION", nargs="+", help="the sessions' ids")
    _add_confirmation(command)

    command = add(
        "prune",
        commands.prune,
        "delete the sessions that had no activity for long",
        "prune --older-than 30d --dry-run",
        "prune --older-than 30d --metadata app=demo --yes",
        read_only=False,
    )
    command.add_argument("--older-than", metavar="AGE", type=_age, required=True, help="such as 90m, 12h, 30d or 4w")
    _add_metadata(command)
    _add_confirmation(command)

    command = add(
        "tag",
        commands.tag,
        "change the metadata of a session; KEY= removes a key",
        "tag my-session user_id=42 app=web",
        "tag my-session app=",
        read_only=False,
    )
    command.add_argument("session", metavar="SESSION", help="the session's id")
    command.add_argument(
        "pairs", metavar="KEY=VALUE", type=_pair, nargs="+", help="a new value, or nothing to remove the key"
    )

    command = add(
        "export",
        commands.export,
        "write sessions as JSON Lines",
        "export > sessions.jsonl",
        "export my-session -o my-session.jsonl",
        read_only=True,
    )
    command.add_argument("session", metavar="SESSION", nargs="*", help="the sessions' ids (default: all)")
    command.add_argument("-o", "--output", metavar="FILE", help="a new file (default: standard output)")

    command = add(
        "import",
        commands.import_,
        "read sessions from what export wrote",
        "import sessions.jsonl",
        "--db new.db import --create sessions.jsonl",
        read_only=False,
    )
    command.set_defaults(opens=False)
    command.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: standard input")
    command.add_argument("--replace", action="store_true", help="replace sessions that exist")
    command.add_argument("--create", action="store_true", help="create the database if there is none")

    command = add(
        "copy",
        copy,
        "copy sessions between stores",
        "copy file:/var/lib/my-app/sessions sessions.db --all",
        "copy s3://my-bucket/production sessions.db --all --skip-existing --region eu-central-1",
        "copy sessions.db postgresql://user:password@host/agents my-session",
        read_only=False,
    )
    command.set_defaults(opens=None)
    command.description = (
        "Copy sessions between stores. A store is file:DIR (Strands' FileSessionManager), s3://BUCKET/PREFIX"
        " (S3SessionManager), postgresql://... (strands-postgresql-session-manager) or the path of a SQLite file."
    )
    command.add_argument("source", metavar="FROM", help="the store to copy from")
    command.add_argument("target", metavar="TO", help="the store to copy to")
    command.add_argument("session", metavar="SESSION", nargs="*", help="the sessions' ids")
    command.add_argument("--all", action="store_true", help="all sessions")
    command.add_argument("--skip-existing", action="store_true", help="pass over sessions that the target has")
    command.add_argument("--endpoint-url", metavar="URL", help="another server that speaks S3")
    command.add_argument("--region", metavar="REGION", help="the AWS region")

    command = add(
        "backup",
        commands.backup,
        "copy the file while it is in use",
        "backup /backups/sessions-monday.db",
        read_only=True,
    )
    command.add_argument("destination", metavar="DEST", help="the file to create")

    command = add("check", commands.check, "examine the file for damage", "check", read_only=True)
    _add_json(command)

    add("vacuum", commands.vacuum, "give unused space back to the file system", "vacuum", read_only=False)
    return parser


def _add_db(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--db",
        metavar="PATH",
        default=default,
        help=f"the file (default: ${files.ENVIRONMENT_VARIABLE}, or {files.DEFAULT_PATH})",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def _add_limit(parser: argparse.ArgumentParser, default: int, help_: str) -> None:
    parser.add_argument("--limit", metavar="N", type=_count, default=default, help=help_)


def _add_metadata(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metadata",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="only sessions with this value; may be repeated",
    )


def _add_confirmation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")


def _pair(argument: str) -> tuple[str, str]:
    key, equals, value = argument.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{argument!r} is not KEY=VALUE")
    return key, value


def _age(argument: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,4})([mhdw])", argument)
    if match is None:
        raise argparse.ArgumentTypeError(f"{argument!r} is no length of time such as 90m, 12h, 30d or 4w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _count(argument: str) -> int:
    if not argument.isdecimal():
        raise argparse.ArgumentTypeError(f"{argument!r} is no number of things")
    return min(int(argument), MOST)


def _example(*lines: str) -> str:
    heading = "example:" if len(lines) == 1 else "examples:"
    return "\n".join([heading, *(f"  {line}" for line in lines)])
