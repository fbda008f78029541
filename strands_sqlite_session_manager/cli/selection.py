"""What a command is about: sessions that are named, those with some metadata, or all; and between which times."""

import argparse
from collections.abc import Sequence

from ..sessions.listing import Filter
from .errors import UsageError


def between(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return what `--since` and `--before` say, as the file holds times."""
    selected = Filter.of(None, arguments.since, arguments.before)
    return selected.after, selected.before


def selected_sessions(arguments: argparse.Namespace, verb: str) -> Sequence[str] | Filter:
    """Return the ids that a command line names, or the filter that it gives.

    Selecting nothing does not mean all sessions: a list of ids can turn out to be empty.

    Raises:
        UsageError: If it selects nothing, or selects in two ways.
        ValueError: If a string of the metadata is not valid Unicode.
    """
    ways = [bool(arguments.session), bool(arguments.metadata)]
    choices = f"name the sessions to {verb}, or use --metadata KEY=VALUE"
    if hasattr(arguments, "all"):
        ways.append(arguments.all)
        choices += " or --all"
    if not any(ways):
        raise UsageError(choices)
    if sum(ways) > 1:
        raise UsageError(f"{choices}, but not together")
    return list(dict.fromkeys(arguments.session)) or Filter.of(dict(arguments.metadata))
