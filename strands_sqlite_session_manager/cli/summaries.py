"""Sessions as a table, and in a few words."""

from collections.abc import Iterable, Mapping, Sequence

from ..database.database import Database
from ..database.identifiers import validate_id
from ..sessions.listing import SessionSummary, summarize
from ..sessions.orchestrators import kind_of
from . import output, times
from .layout import cut, pad, space, width, wrap

_HEADINGS = ("active", "messages", "title", "session")
_NARROWEST_TITLE = 16  # columns; with fewer, a session takes two lines
_SHORTEST_ID = 6


def summaries_of(database: Database, session_ids: Iterable[str]) -> list[SessionSummary]:
    """Return the summaries of sessions that must exist.

    Raises:
        ValueError: If an id is not allowed.
        SessionNotFoundException: If a session does not exist.
    """
    checked = [validate_id(session_id, "session") for session_id in session_ids]
    return database.snapshot(lambda connection: [summarize(connection, session_id) for session_id in checked])


def print_summaries(database: Database, summaries: Sequence[SessionSummary], *, long: bool = False) -> None:
    """Print sessions for people: when something happened last, how many messages, what it is about, and the id.

    On a terminal, ids are cut as short as they can be while they stay unique. `long` prints whole ids, and the metadata
    below.
    """
    titles = titles_of(database, summaries)
    rows = [
        (times.ago(summary.updated_at), f"{summary.message_count:,}", title, output.safe(summary.session_id))
        for summary, title in zip(summaries, titles, strict=True)
    ]
    widths = [max(map(width, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    when, messages, title, session = widths
    columns = space()
    if columns is not None:
        left = columns - when - messages - 6
        if not long and title + session > left:
            shorter = [output.safe(short_id(database, summary.session_id)) for summary in summaries]
            session = max(width(_HEADINGS[-1]), *map(width, shorter)) if shorter else session
            session = max(session, min(left - title, widths[-1]))
            rows = [
                (*row[:3], row[3] if width(row[3]) <= session else short)
                for row, short in zip(rows, shorter, strict=True)
            ]
        title = min(title, left - session)
        if title < _NARROWEST_TITLE and title < widths[2]:
            for row, summary in zip(rows, summaries, strict=True):
                _print_on_two_lines(row, when, columns)
                _print_metadata(summary, when, columns, long=long)
            return
    print(output.style(_line(_HEADINGS, (when, messages, title, session)), "bold"))
    for row, summary in zip(rows, summaries, strict=True):
        print(_line(row, (when, messages, title, session)))
        _print_metadata(summary, when, columns, long=long)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    when, messages, title, session = row
    cells = (pad(when, widths[0]), pad(messages, widths[1], True), pad(cut(title, widths[2]), widths[2]), session)
    return "  ".join(cells).rstrip()


def _print_on_two_lines(row: Sequence[str], when: int, columns: int) -> None:
    age, messages, title, session = row
    print(cut(f"{pad(age, when)}  {title}".rstrip(), columns))
    below = f"{' ' * when}  {messages} {'message' if messages == '1' else 'messages'}  {session}"
    print(output.style(cut(below, columns), "dim"))


def _print_metadata(summary: SessionSummary, when: int, columns: int | None, *, long: bool) -> None:
    if long and summary.metadata:
        for line in wrap(output.safe(pairs(summary.metadata)), columns and columns - when - 2):
            print(output.style(f"{' ' * (when + 2)}{line}", "dim"))


def titles_of(database: Database, summaries: Sequence[SessionSummary]) -> list[str]:
    """Return what each session is called: the title in its metadata, or what was said first."""
    ids = [summary.session_id for summary in summaries if summary.multi_agent_ids]
    kinds = database.snapshot(lambda connection: {session_id: kind_of(connection, session_id) for session_id in ids})
    titles = []
    for summary in summaries:
        title = output.safe(" ".join(summary.metadata.get("title", summary.preview).split()))
        kind = kinds.get(summary.session_id)
        titles.append(title if kind is None else f"{output.safe(kind)}: {title}")
    return titles


def short_id(database: Database, session_id: str) -> str:
    """Return the beginning of an id that no other id has, with an ellipsis, or the whole id."""
    ((*neighbors,),) = database.read(
        "SELECT (SELECT max(session_id) FROM sessions WHERE session_id < ?1),"
        " (SELECT min(session_id) FROM sessions WHERE session_id > ?1)",
        (session_id,),
    )
    length = max(_SHORTEST_ID, *(1 + _shared(session_id, neighbor or "") for neighbor in neighbors))
    return session_id if length + 1 >= len(session_id) else f"{session_id[:length]}…"


def _shared(one: str, other: str) -> int:
    """Return the length of the common beginning of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (this, that) in pairs if this != that), min(len(one), len(other)))


def pairs(metadata: Mapping[str, str]) -> str:
    """Return metadata as typed: `user_id=42 app=web`."""
    return " ".join(f"{key}={value}" for key, value in metadata.items())


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 session`, `2,000 messages`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
