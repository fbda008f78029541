"""How sessions look on terminals of several widths: nothing is squeezed, cut or shifted needlessly."""

import re
from pathlib import Path

import pytest

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.cli.layout import cut, width, wrap

from ..support.command_line import on_a_terminal, run
from ..support.dated_records import add_message, add_session
from ..support.scripted_model import tool_use

IDS = {name: f"{digit * 6}{name}-0000-0000-0000-000000000000" for name, digit in zip("abcd", "1234", strict=True)}
LONG = "Which flights are there to Lisbon in May, and is the train from Porto any better than it was last year?"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with sessions of long ago, in several scripts."""
    path = tmp_path_factory.mktemp("layout") / "sessions.db"
    with SQLiteSessionRepository(path) as repository:
        for minute, (name, text) in enumerate(
            {"a": LONG, "b": "里斯本五月的天气怎么样", "c": "مرحبا كيف حالك", "d": "a trip 👨‍👩‍👧 with ❤️"}.items()
        ):
            add_session(repository, IDS[name], minute)
            add_message(repository, IDS[name], minute, text)
        repository.update_session_metadata(IDS["d"], {"title": "Family\ntrip", "tags": "a, b", "user_id": "42"})
        result = {"toolUseId": "1", "status": "error", "content": [{"text": "404\n\nnot   found " + "x" * 80}]}
        for number, message in enumerate(
            [
                {"role": "assistant", "content": [{"text": "Let me see."}, tool_use("fetch", "1", url="http://x")]},
                {"role": "user", "content": [{"toolResult": result}]},
                {"role": "assistant", "content": [{"text": "word " * 20 + "\n    as it was"}]},
            ],
            1,
        ):
            add_message(repository, IDS["a"], 10, message, message_id=number)
    return path


def told(db: Path, *arguments: object, columns: int) -> str:
    code, text = on_a_terminal("--db", db, *arguments, columns=columns, NO_COLOR="1")
    assert code == 0, text
    return text


LISTS = {
    40: """\
2024-05-06  Which flights are there to …
            4 messages  111111…
2024-05-06  Family trip
            1 message  444444…
2024-05-06  مرحبا كيف حالك
            1 message  333333…
2024-05-06  里斯本五月的天气怎么样
            1 message  222222…
""",
    80: """\
active      messages  title                                              session
2024-05-06         4  Which flights are there to Lisbon in May, and is…  111111…
2024-05-06         1  Family trip                                        444444…
2024-05-06         1  مرحبا كيف حالك                                     333333…
2024-05-06         1  里斯本五月的天气怎么样                             222222…
""",
    200: f"""\
active      messages  title{" " * 97}session
2024-05-06         4  {LONG[:100]}  {IDS["a"]}
2024-05-06         1  {"Family trip":100}  {IDS["d"]}
2024-05-06         1  {"مرحبا كيف حالك":100}  {IDS["c"]}
2024-05-06         1  {"里斯本五月的天气怎么样":89}  {IDS["b"]}
""",
}


@pytest.mark.every_case
@pytest.mark.parametrize("columns", LISTS)
def test_a_list_uses_the_room_there_is(columns: int, db: Path) -> None:
    assert told(db, "list", columns=columns) == LISTS[columns]


def test_a_long_list_has_whole_ids_and_the_metadata(db: Path) -> None:
    lines = run("list", "--long", db=db).out.splitlines()
    assert lines[2].endswith(IDS["d"])
    assert lines[3].split(None, 0) == ["title=Family\\ntrip tags=a, b user_id=42"]
    assert "user_id" not in run("list", db=db).out


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_search_shows_the_title_who_when_and_the_words_around(columns: int, db: Path) -> None:
    text = told(db, "search", "LISBON", columns=columns)
    heading, *words = re.split(r"\n  (?=Which)", text.rstrip("\n"))
    assert re.sub(r"\s+", " ", heading).startswith("Which flights are t")
    assert re.search(r"user  2024-05-06  #0  111111", heading)
    assert [re.sub(r"\s+", " ", found) for found in words] == [
        "Which flights are there to Lisbon in May, and is the train from Porto any better than it was…"
    ]
    assert max(map(width, text.splitlines())) <= columns


def test_what_was_searched_for_is_highlighted(db: Path) -> None:
    _, text = on_a_terminal("--db", db, "search", "LISBON", columns=100)
    assert "there to \x1b[33mLisbon\x1b[0m in May" in text


def test_a_search_without_a_match_says_so(db: Path) -> None:
    assert run("search", "Oslo", db=db).out == "no message contains this text\n"
    assert run("search", "Oslo", "--json", db=db).out == ""


SHOWN = """\
user  #0
  Which flights are there to Lisbon in
  May, and is the train from Porto any
  better than it was last year?

assistant  #1
  Let me see.
  → fetch {"url": "…  ✗ 404 not found x…

assistant  #3
  word word word word word word word
  word word word word word word word
  word word word word word word
      as it was

"""


def test_a_conversation_is_wrapped_and_every_call_is_a_line_with_its_result(db: Path) -> None:
    shown = told(db, "show", IDS["a"], columns=40)
    assert shown.splitlines() == SHOWN.splitlines()
    piped = run("show", IDS["a"], db=db).out
    assert '  → fetch {"url": "http://x"}  ✗ 404 not found ' + "x" * 80 + "\n" in piped


def test_calls_unfold_and_times_appear_on_request(db: Path) -> None:
    full = run("show", IDS["a"], "--full", db=db).out
    assert '\n  → fetch {"url": "http://x"}\n' in full
    assert "\n  ✗ 404\n    \n    not   found " in full
    assert re.search(r"user  #0  2024-05-06 \d\d:\d\d\n", run("show", IDS["a"], "--times", db=db).out)


def test_a_result_is_paired_with_the_call_before_it_when_ids_repeat(path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "session")
        for number, words in enumerate(["one", None, "two", None]):
            content = tool_use("say", "1", text=words) if words else {"toolResult": {"toolUseId": "1", "content": []}}
            content.get("toolResult", {}).update(content=[{"text": f"said {number}"}])
            role = "assistant" if words else "user"
            add_message(repository, "session", number, {"role": role, "content": [content]}, message_id=number)
        add_message(
            repository,
            "session",
            9,
            {"role": "user", "content": [{"toolResult": {"toolUseId": "9", "content": [{"text": "of nobody"}]}}]},
            message_id=4,
        )
    lines = [line for line in run("show", "session", db=path).out.splitlines() if line.startswith("  ")]
    assert lines == ['  → say {"text": "one"}  ← said 1', '  → say {"text": "two"}  ← said 3', "  ← of nobody"]


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("世界", 4), ("é", 1), ("e\u0301", 1), ("👨‍👩‍👧", 2), ("❤️", 2), ("مرحبا", 5), ("", 0)],
    ids=ascii,
)
def test_the_width_of_a_text_is_what_terminals_give_it(text: str, columns: int) -> None:
    assert width(text) == columns
    assert cut(text, columns) == text


@pytest.mark.parametrize(
    ("line", "columns", "expected"),
    [
        ("hello to the world", 8, ["hello to", "the", "world"]),
        ("世界世界世", 5, ["世界", "世界", "世"]),
        ("a" * 7, 3, ["aaa", "aaa", "a"]),
        ("    code here", 9, ["    code", "here"]),
        ("fits", 4, ["fits"]),
        ("no terminal", None, ["no terminal"]),
    ],
)
def test_lines_are_wrapped_at_spaces_where_there_are_any(line: str, columns: int | None, expected: list[str]) -> None:
    assert wrap(line, columns) == expected
