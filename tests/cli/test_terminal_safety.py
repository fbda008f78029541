"""Nothing in a conversation, a name, or an argument reaches the terminal in a form that controls it."""

import json
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.command_line import Ended, in_a_process, on_a_terminal, run
from ..support.conversations import build
from ..support.scripted_model import tool_use

# What a terminal obeys: C0 and C1 controls, and what changes the direction of text (Unicode's Bidi_Control).
OBEYED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HOSTILE = {
    "escapes": "\x1b[31mred\x1b[0m \x1b]0;owned\x07 \x1bc\x1b[2J\x1b[H",
    "c1": "\x9b2J\x9d0;owned\x9c",
    "overwriting": "harmless\rrm -rf\b\b\b\x7f",
    "lines": "one\x0btwo\x0cthree\x1cfour\x85five\u2028six\u2029seven",
    "direction": f"abc{BIDI}def",
}
COMMANDS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "list": lambda session_id: ("list",),
    "list --json": lambda session_id: ("list", "--json"),
    "list --metadata": lambda session_id: ("list", "--metadata", f"key={session_id}"),
    "show": lambda session_id: ("show", session_id),
    "show markdown": lambda session_id: ("show", session_id, "--format", "markdown"),
    "show json": lambda session_id: ("show", session_id, "--format", "json"),
    "show --agent": lambda session_id: ("show", session_id, "--agent", session_id),
    "search": lambda session_id: ("search", "find me"),
    "search --json": lambda session_id: ("search", "find me", "--json"),
    "search the text": lambda session_id: ("search", session_id),
    "stats": lambda session_id: ("stats",),
    "stats --json": lambda session_id: ("stats", "--json"),
    "export": lambda session_id: ("export", "--all"),
    "export one": lambda session_id: ("export", session_id),
    "delete --dry-run": lambda session_id: ("delete", session_id, "--dry-run"),
    "delete unasked": lambda session_id: ("delete", session_id),
    "prune --dry-run": lambda session_id: ("prune", "--older-than", "0m", "--dry-run"),
    "check": lambda session_id: ("check",),
    "fork": lambda session_id: ("fork", session_id, f"{session_id}2"),
    "fork a second time": lambda session_id: ("fork", session_id, session_id),
    "fork through": lambda session_id: ("fork", session_id, f"{session_id}3", "--through", "9"),
    "tag": lambda session_id: ("tag", session_id, f"{session_id}={session_id}"),
    "delete": lambda session_id: ("delete", session_id, "--yes"),
}


def assert_harmless(ended: Ended) -> None:
    assert not OBEYED.search(ended.out.replace("\t", " ")), repr(ended.out)  # Markdown keeps tabs
    assert not OBEYED.search(ended.err), repr(ended.err)
    assert "Traceback" not in ended.err


def store(path: Path, text: str) -> None:
    """Store a text wherever a session can hold one; a session's id is the text, too."""
    picture = {"image": {"format": f"png{text}", "source": {"bytes": b"x"}}}
    document = {"document": {"name": text, "format": text, "source": {"bytes": b"x"}}}
    blocks: list[Any] = [
        {"text": f"find me {text}"},
        {"reasoningContent": {"reasoningText": {"text": f"find me {text}"}}},
        {"guardContent": {"text": {"text": text}}},
        {"toolUse": {"toolUseId": text, "name": text, "input": {text: [text, {"find me": text}]}}},
        {"toolResult": {"toolUseId": text, "status": text, "content": [{"text": text}, {"json": {text: text}}]}},
        {"toolResult": {"toolUseId": text, "status": "error", "content": [picture, document, {"text": text}]}},
        {"citationsContent": {"content": [{"text": text}], "citations": []}},
        picture,
        document,
    ]
    with SQLiteSessionManager(text, path, metadata={text: text, "key": text}) as manager:
        for agent_id in (text, "other"):
            manager.create_agent(text, SessionAgent(agent_id, {text: text}, {}))
        for number, role in enumerate(("user", text)):
            message: Any = {"role": role, "content": blocks}
            redaction: Any = {"role": role, "content": [{"text": f"find me {text}"}]} if number else None
            times = {"created_at": f"2024{text}", "updated_at": f"2024{text}"} if number else {}
            manager.create_message(text, text, SessionMessage(message, number, redact_message=redaction, **times))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_command_prints_what_controls_a_terminal(name: str, command: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store(path, HOSTILE[name])
    ended = run(*COMMANDS[command](HOSTILE[name]), db=path)
    assert_harmless(ended)
    assert ended.out or ended.err


@pytest.mark.parametrize("command", ["list", "show", "show markdown", "show json", "search", "export"])
def test_every_character_comes_out_readable(command: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    every = "".join(map(chr, range(0x20))) + "".join(map(chr, range(0x7F, 0x100))) + BIDI + "\udfff\ud800\U0001f9ed"
    with SQLiteSessionManager("session", path) as manager:
        build(manager, [tool_use("shout", "t1", text=every)], every)(f"find me {every}")
    ended = run(*COMMANDS[command]("session"), db=path)
    assert ended.code == 0
    assert_harmless(ended)
    assert command in ("list", "search") or "ÿ" in ended.out  # which show the beginning
    assert re.search(r"\\(x|u00)1b", ended.out)
    if command in ("show json", "export"):
        lines = [json.loads(line) for line in ended.out.splitlines()]
        assert every in [said["message"]["content"][0].get("text") for said in lines if "message_id" in said]


@pytest.mark.parametrize("character", ["\u061c", *BIDI], ids=ascii)
def test_no_character_changes_the_direction_of_the_text_around_it(character: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("session", path) as manager:
        build(manager)(f"abc{character}def")
    for command in ("list", "list --json", "show", "show json"):
        ended = run(*COMMANDS[command]("session"), db=path)
        assert f"abc\\u{ord(character):04x}def" in ended.out
        assert_harmless(ended)


@pytest.mark.parametrize("command", ["list", "show", "search"])
def test_a_terminal_receives_colors_and_no_other_control(command: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    for text in HOSTILE.values():
        store(path, text)
    code, told = on_a_terminal("--db", path, *COMMANDS[command](HOSTILE["escapes"]), columns=500)
    assert code == 0
    plain = re.sub("\x1b\\[(0|1|2|31|32|33|36)m", "", told)
    assert not OBEYED.search(plain)
    assert r"\x1b[31mred" in plain


@pytest.mark.parametrize("name", ["escapes", "c1", "direction"])
@pytest.mark.parametrize(
    "command",
    [
        ("show", "{}"),
        ("show", "ok", "--agent", "{}"),
        ("export", "{}"),
        ("export", "--all", "-o", "{}/{}"),
        ("import", "{}"),
        ("backup", "{}/{}"),
        ("fork", "{}", "a"),
        ("fork", "ok", "{}/"),
        ("delete", "{}", "--yes"),
        ("tag", "{}", "a=b"),
        ("tag", "ok", "{}"),
        ("--db", "{}.db", "list"),
        ("--db", "{}/", "list"),
        ("list", "{}"),
        ("list", "--limit", "{}"),
        ("list", "--metadata", "{}"),
        ("prune", "--older-than", "{}"),
        ("show", "ok", "--format", "{}"),
        ("fork", "ok", "a", "--through", "{}"),
        ("delete", "ok", "--d={}"),
        ("delete", "ok", "--{}"),
        ("{}",),
    ],
    ids=" ".join,
)
def test_no_error_prints_what_controls_a_terminal(
    command: tuple[str, ...], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with SQLiteSessionRepository("sessions.db") as repository:
        repository.create_session(Session("ok", SessionType.AGENT))
    ended = run(*(argument.replace("{}", HOSTILE[name]) for argument in command), db=tmp_path / "sessions.db")
    assert ended.code in (1, 2)
    assert_harmless(ended)
    assert ended.code == 2 or ended.err.count("\n") == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_file_names_reach_the_terminal_in_harmless_form(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "win32":
        pytest.skip("there are no such names of files")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"{HOSTILE[name]}.db"
    store(path, "session")
    for arguments in (
        *(("stats",), ("stats", "--json"), ("check",), ("vacuum",)),
        *(("backup", f"{HOSTILE[name]}.backup"), ("backup", f"{HOSTILE[name]}.backup")),
        *(("export", "--all", "-o", f"{HOSTILE[name]}.jsonl"), ("export", "--all", "-o", f"{HOSTILE[name]}.jsonl")),
        ("import", f"{HOSTILE[name]}.jsonl"),
        ("list",),
    ):
        assert_harmless(run(*arguments, db=path))
    assert (tmp_path / f"{HOSTILE[name]}.backup").exists()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE messages SET message = 'no JSON'")
        connection.commit()
    for arguments in (
        ("check",),
        ("check", "--json"),
        ("show", "session"),
        ("list",),
        ("search", "no"),
        ("export", "--all"),
    ):
        ended = run(*arguments, db=path)
        assert ended.code in (0, 1)
        assert_harmless(ended)


@pytest.mark.parametrize("name", HOSTILE)
def test_findings_about_damaged_rows_are_harmless(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store(path, HOSTILE[name])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE agents SET context = '\x1b[31m'")
        connection.execute("UPDATE sessions SET session_type = '\x1b[31m'")
        connection.execute("UPDATE messages SET message_id = message_id + 3, message = '[\"\x1b[31m\"]'")
        connection.commit()
    for arguments in (
        ("check",),
        ("check", "--json"),
        ("list",),
        ("show", HOSTILE[name]),
        ("search", "31"),
        ("export", "--all"),
    ):
        ended = run(*arguments, db=path)
        assert ended.code == 1 or arguments[0] == "search"
        assert_harmless(ended)


@pytest.mark.parametrize("name", HOSTILE)
def test_findings_about_a_malformed_import_are_harmless(name: str, tmp_path: Path) -> None:
    path, text = tmp_path / "sessions.db", HOSTILE[name]
    times = {"created_at": "2024", "updated_at": "2024", "active_at": "2024"}
    session = {"kind": "session", "session_id": text, "session_type": "AGENT", "metadata": {}, **times, "format": 1}
    counts = {"agents": 1, "messages": 0, "multi_agents": 0}
    for lines in (
        [{"kind": text}],
        [{text: text}],
        [{**session, **counts, text: text}],
        [{**session, **counts, "format": text}],
        [{**session, **counts, "session_id": f"{text}/"}],
        [{**session, **counts, "metadata": {text: 1}}],
        [{**session, **counts}],
        [{**session, **counts, "agents": text}],
        [{**session, **counts}, {"kind": "agent", "session_id": text, text: 1}],
    ):
        (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
        ended = run("import", "--create", tmp_path / "x.jsonl", db=path)
        assert ended.code == 1
        assert_harmless(ended)
        assert ended.err.count("\n") == 1


@pytest.mark.long
def test_a_separate_process_prints_nothing_that_controls_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    store(path, HOSTILE["escapes"])
    assert_harmless(in_a_process("--db", path, "show", HOSTILE["escapes"]))
    assert_harmless(in_a_process("--db", f"{path} {HOSTILE['escapes']}", "list"))
    assert_harmless(in_a_process("--db", path, "list", HOSTILE["escapes"]))
