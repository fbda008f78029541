"""Times as people type and read them."""

import argparse
import re
from datetime import datetime, timedelta, timezone

from .output import safe

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def ago(moment: str) -> str:
    """Return a time of the file as people say it: `3 min ago`, or the day if that is a week ago or more."""
    try:
        then = datetime.fromisoformat(moment).astimezone()
    except (TypeError, ValueError, OverflowError, OSError):
        return safe(moment)
    minutes = (datetime.now(timezone.utc) - then).total_seconds() / 60
    if -1 < minutes < 1:
        return "just now"
    for limit, unit, length in ((60, "min", 1), (24 * 60, "h", 60), (2 * 24 * 60, "day", 24 * 60)):
        if 1 <= minutes < limit:
            return f"{minutes // length:.0f} {unit} ago"
    if 1 <= minutes < 7 * 24 * 60:
        return f"{minutes // (24 * 60):.0f} days ago"
    return then.strftime("%Y-%m-%d")


def age(argument: str) -> timedelta:
    """Return the length of `90m`, `12h`, `30d` or `4w`.

    Raises:
        argparse.ArgumentTypeError: If it is something else.
    """
    match = re.fullmatch(r"(\d{1,4})([mhdw])", argument, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a number and a unit, such as 90m, 12h, 30d or 4w, not {argument!r}")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def moment(argument: str) -> datetime:
    """Return a time: an age such as `2h` or `7d` ago, the beginning of a local day, or any ISO 8601 time.

    Raises:
        argparse.ArgumentTypeError: If it is something else.
    """
    try:
        return datetime.now(timezone.utc) - age(argument)
    except argparse.ArgumentTypeError:
        pass
    try:
        return datetime.fromisoformat(argument.replace("Z", "+00:00")).astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise argparse.ArgumentTypeError(
            f"must be an age such as 2h or 7d, or a date such as 2026-05-01, not {argument!r}"
        ) from error
