"""No error repeats unreadable content, whether it comes from a file, an import, or another store.

The secret is in every message, tool input and output, state, metadata value, and orchestrator, intact or damaged.
"""

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import (
    FileSessionRepository,
    S3SessionRepository,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    copy_session,
    transfer,
)
from strands_sqlite_session_manager.database.database import Database

from ..support.command_line import run
from ..support.conversations import build
from ..support.leaked_secrets import SECRET, fill, telling, told_by_command
from ..support.legacy_files import example, write
from ..support.records import Orchestrator, query
from ..support.stores import MemoryRepository

COLUMNS = {
    "session_metadata": ("value",),
    "agents": ("state", "conversation_manager_state", "internal_state", "context"),
    "messages": ("message", "redact_message", "edited_message"),
    "multi_agents": ("state",),
}
each_column = pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table, columns in COLUMNS.items() for column in columns]
)
COMMANDS: tuple[tuple[str, ...], ...] = (
    *(("list",), ("list", "--metadata", "user=42"), ("show", "home"), ("show", "home", "--json")),
    *(("search", SECRET), ("search", "text"), ("stats",), ("export", "--all"), ("check",), ("check", "--json")),
    *(("fork", "home", "fork"), ("fork", "home", "fork 2", "--agent", "ada", "--through", "1")),
    *(("tag", "home", "user=42"), ("prune", "--older-than", "0m", "--yes"), ("delete", "home", "--yes")),
)


@pytest.fixture
def filled(path: Path) -> Path:
    fill(path)
    return path


DAMAGED: dict[str, str | bytes] = {
    "cut off": f'{{"x": "{SECRET}',
    "no JSON": SECRET,
    "more after it": f'{{"x": 1}} {SECRET}',
    "a string": f'"{SECRET}"',
    "a list": f'["{SECRET}"]',
    "an object": f'{{"{SECRET}": "{SECRET}"}}',
    "other types inside": f'{{"role": ["{SECRET}"], "content": "{SECRET}", "summary_message": "{SECRET}"}}',
    "no base64": f'{{"x": {{"__bytes_encoded__": true, "data": "{SECRET}!"}}}}',
    "no text as base64": f'{{"x": {{"__bytes_encoded__": true, "data": ["{SECRET}"]}}}}',
    "ours, no base64": f'{{"x": {{"__bytes_encoded__": "raw", "data": "{SECRET}!"}}}}',
    "a long integer": f'{{"x": ["{SECRET}", {"9" * 5000}]}}',
    "deep": "[" * 100_000 + f'"{SECRET}"',
    "not UTF-8": f'{{"x": "{SECRET} \udcff"}}'.encode(errors="surrogateescape"),
    "not UTF-8, and no JSON": f"{SECRET} \udcff\udc80".encode(errors="surrogateescape"),
}
QUICK = ("cut off", "other types inside", "not UTF-8")
each_damage = pytest.mark.parametrize(
    "damage",
    [pytest.param(DAMAGED[name], id=name, marks=() if name in QUICK else pytest.mark.long) for name in DAMAGED],
)
READERS: dict[str, Callable[[SQLiteSessionManager], Any]] = {
    "list_sessions": lambda manager: manager.list_sessions(),
    "list_sessions by metadata": lambda manager: manager.list_sessions(metadata={"user": "42", "odd key": SECRET}),
    "read_agent": lambda manager: manager.read_agent("home", "ada"),
    "list_agents": lambda manager: manager.list_agents("home"),
    "list_messages": lambda manager: manager.list_messages("home", "ada"),
    "read_message": lambda manager: manager.read_message("home", "ada", 0),
    "read_multi_agent": lambda manager: manager.read_multi_agent("home", "graph"),
    "initialize_multi_agent": lambda manager: manager.initialize_multi_agent(Orchestrator("graph")),  # type: ignore[arg-type]
    "resume": lambda manager: build(manager, SECRET, agent_id="ada")(SECRET),
    "search": lambda manager: manager.search_messages(SECRET),
    "search for what is nowhere": lambda manager: manager.search_messages("é"),
    "update_session_metadata": lambda manager: manager.update_session_metadata("home", {"user": "42"}),
    "open with metadata": lambda manager: SQLiteSessionManager("home", manager._database.path, metadata={"a": "b"}),
    "fork": lambda manager: manager.fork_session("home", "fork"),
    "fork a part": lambda manager: manager.fork_session("home", "part", agent_id="ada", through_message=1),
    "copy": lambda manager: copy_session(manager, MemoryRepository(), "home"),
    "check": lambda manager: manager.check(),
    "vacuum": lambda manager: manager.vacuum(),
}


def told_of(path: Path) -> list[str]:
    """Return where the secret appears when every operation runs on a file that may be damaged."""
    found = []
    told, failure = telling(lambda: SQLiteSessionManager("home", path).close())
    found += [f"open: {place}" for place in told]
    if failure is None:
        with SQLiteSessionManager("home", path) as manager:
            for name, read in READERS.items():
                found += [f"{name}: {place}" for place in telling(lambda read=read: read(manager))[0]]  # type: ignore[misc]
    for command in COMMANDS:
        found += [f"{command[0]}: {place}" for place in told_by_command("--db", path, *command)]
    return found


def told_of_row(path: Path, table: str, column: str, kind: str, damage: str | bytes) -> list[str]:
    """Damage a column in a copy of a file; return where the secret appears when every operation runs on it."""
    copy = path.with_name("damaged.db")
    shutil.copy(path, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        data = damage.encode() if isinstance(damage, str) else damage
        connection.execute(f"UPDATE {table} SET {column} = CAST(? AS {kind})", (data,))
    found = told_of(copy)
    copy.unlink()
    return found


@each_column
@pytest.mark.parametrize(("kind", "damage"), [("TEXT", "other types inside"), ("BLOB", "not UTF-8")])
def test_no_error_repeats_an_unreadable_row(table: str, column: str, kind: str, damage: str, filled: Path) -> None:
    assert told_of_row(filled, table, column, kind, DAMAGED[damage]) == []


@pytest.mark.long
@each_column
def test_no_error_repeats_a_row_however_it_is_damaged(
    table: str, column: str, filled: Path, scaled: Callable[[int], int]
) -> None:
    """Runs every operation on a file in which each JSON column is damaged in every way we know, as text and as blob."""
    damages = [(kind, name) for kind in ("TEXT", "BLOB") for name in DAMAGED]
    random.Random(column).shuffle(damages)
    found = {
        (kind, name): told_of_row(filled, table, column, kind, DAMAGED[name])
        for kind, name in damages[: scaled(len(damages))]
    }
    assert {damage: told for damage, told in found.items() if told} == {}


def told_of_bytes(path: Path, seed: int) -> list[str]:
    """Write over some bytes of a copy of a file; return where the secret appears when every operation runs on it."""
    chance = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 5, 50))):
        at, length = chance.randrange(100, len(content)), chance.choice((1, 1, 8, 500))
        content[at : at + length] = chance.randbytes(length)
    copy = path.with_name(f"{seed}.db")
    copy.write_bytes(content)
    found = told_of(copy)
    copy.unlink()
    return found


@pytest.mark.parametrize("seed", range(6))
def test_no_error_repeats_a_damaged_page(seed: int, filled: Path) -> None:
    assert told_of_bytes(filled, seed) == []


@pytest.mark.long
def test_no_error_repeats_any_of_hundreds_of_damaged_pages(filled: Path, scaled: Callable[[int], int]) -> None:
    """Runs every operation on 500 copies of a file, each with random bytes overwritten."""
    found = {seed: told_of_bytes(filled, seed) for seed in range(1000, 1000 + scaled(500))}
    assert {seed: told for seed, told in found.items() if told} == {}


# -- imports --


def variants(value: Any) -> list[Any]:
    """Return what a row may hold instead of a value, each with its secret."""
    return [None, [value], {"x": value}, json.dumps(value), f"{SECRET} \ud83d", 10**30, {"role": SECRET}]


def hostile_imports(lines: list[str]) -> Iterator[bytes]:
    """Return an export with one thing wrong, and then another one."""
    for number, text in enumerate(lines):
        line = json.loads(text)
        others = lines[:number], lines[number + 1 :]
        bad = [text[:-5], f"{text} {SECRET}", f'"{SECRET}"', f'["{SECRET}"]', "[" * 100_000 + SECRET]
        for key, value in line.items():
            if key not in ("kind", "format") and not key.endswith("_id"):  # an error may name these
                bad += [json.dumps({**line, key: other}) for other in variants(value)]
        for wrong in bad:
            yield "\n".join((*others[0], wrong, *others[1])).encode(errors="surrogatepass")
        yield "\n".join((*others[0], text, *others[1])).replace("agent_id", "\udcff").encode(errors="surrogateescape")
    yield "\n".join(lines[:-1]).encode()
    yield "\n".join((*lines, lines[-1])).encode()
    yield "\n".join((lines[0], *reversed(lines[1:]))).encode()


@pytest.mark.long
@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.long)])
def test_no_error_repeats_a_refused_import(every: int, filled: Path) -> None:
    lines = run("--db", filled, "export", "--all").out.splitlines()
    hostile, new = filled.with_name("hostile.jsonl"), filled.with_name("new.db")
    found = {}
    for number, content in enumerate(hostile_imports(lines)):
        if number % every == 0 or b"\xff" in content:
            hostile.write_bytes(content)
            found[number] = [
                *told_by_command("--db", new, "import", "--create", "--replace", hostile),
                *telling(lambda: import_into(new, hostile))[0],
            ]
    assert len(found) > 40
    assert {number: told for number, told in found.items() if told} == {}


def import_into(path: Path, file: Path) -> None:
    """Import in Python, which raises the whole exception that the command prints in one line."""
    with file.open("rb") as lines:
        transfer.import_sessions(lambda: Database(path), (line.decode() for line in lines), replace=True)


# -- legacy files --


@each_damage
@pytest.mark.parametrize("table", ["sessions", "agents", "messages", "multi_agents"])
def test_no_error_repeats_a_legacy_file_that_cannot_be_upgraded(damage: str | bytes, table: str, path: Path) -> None:
    write(path, example(), "DELETE")
    data = damage.encode() if isinstance(damage, str) else damage
    query(path, f"UPDATE {table} SET data = CAST(? AS TEXT)", data)
    assert telling(lambda: SQLiteSessionRepository(path))[0] == []
    for command in (("list",), ("export", "--all"), ("vacuum",)):
        assert told_by_command("--db", path, *command) == []


# -- other stores --


class Talkative(MemoryRepository):
    """A store whose errors also hold the values of the statement, like those of SQLAlchemy."""

    def create_message(self, session_id: str, agent_id: str, session_message: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"no room\n[parameters: {session_message.message!r}]")

    def list_messages(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"no connection\n[rows: {super().list_messages(*args, **kwargs)!r}]")


def test_a_copy_does_not_pass_on_what_its_target_reveals_in_errors(filled: Path) -> None:
    with SQLiteSessionRepository(filled) as repository:
        told, failure = telling(lambda: copy_session(repository, Talkative(), "home"))
    assert "no room" in str(failure)
    assert told == []


def test_a_copy_does_not_pass_on_what_its_source_reveals_in_errors(filled: Path) -> None:
    plain, talkative = MemoryRepository(), Talkative()
    with SQLiteSessionRepository(filled) as repository:
        copy_session(repository, plain, "home")
        vars(talkative).update(vars(plain))
        ids: dict[str, Any] = {"agent_ids": ["ada"], "multi_agent_ids": ["graph"], "new_session_id": "copy"}
        told, failure = telling(lambda: copy_session(talkative, repository, "home", **ids))
    assert "no connection" in str(failure)
    assert told == []


@pytest.mark.long
@each_damage
def test_no_error_repeats_an_unreadable_file_of_a_folder(damage: str | bytes, filled: Path) -> None:
    folder = filled.with_name("folder")
    with SQLiteSessionRepository(filled) as repository:
        copy_session(repository, FileSessionRepository(folder), "home")
    data = damage.encode() if isinstance(damage, str) else damage
    for file in sorted(folder.rglob("*.json")):
        before = file.read_bytes()
        file.write_bytes(data)
        with SQLiteSessionRepository(filled) as repository:
            copy = FileSessionRepository(folder)
            assert telling(lambda copy=copy, to=repository: copy_session(copy, to, "home", new_session_id="x"))[0] == []  # type: ignore[misc]
        assert told_by_command("copy", f"file:{folder}", filled.with_name("new.db"), "--all") == []
        filled.with_name("new.db").unlink(missing_ok=True)
        file.write_bytes(before)


def test_an_error_about_an_unwritable_target_repeats_nothing_that_was_to_be_written(
    filled: Path, s3_bucket: str
) -> None:
    filled.with_name("file").write_text("mine")
    with SQLiteSessionRepository(filled) as repository:
        for target in (FileSessionRepository(filled.with_name("file")), S3SessionRepository("no-such-bucket")):
            told, failure = telling(lambda target=target: copy_session(repository, target, "home"))  # type: ignore[misc]
            assert isinstance(failure, (SessionException, OSError))
            assert told == []
    assert told_by_command("copy", filled, f"file:{filled.with_name('file')}", "--all") == []
    assert told_by_command("copy", filled, "s3://no-such-bucket/x", "--all") == []
