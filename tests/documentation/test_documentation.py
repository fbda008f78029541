"""Every block, command, signature, and link of the documentation is tried as written.

The blocks of a section run in order, in a temporary folder with a few files. Anything without a rule fails, so nothing
untried can be written.
"""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

import strands_sqlite_session_manager as package
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.cli.parser import build_parser
from strands_sqlite_session_manager.database import schema
from strands_sqlite_session_manager.database.tables import STORAGE_TABLES, TABLES

from ..support.command_line import ROOT, run
from ..support.documentation_rules import (
    NAMES,
    PREPARED,
    PROGRAMS,
    VARIABLES,
    NoRuleError,
    Place,
    commands,
    compare_signature,
    conversations,
    is_signature,
    parameters,
    quoted,
    rule_for,
    run_section,
    said_by_the_package,
)
from ..support.markdown import Document, Section, Table, codes, read
from ..support.scripted_model import ScriptedModel, tool_use

pytestmark = pytest.mark.every_case  # each is read on its own

FOLDERS = (".github", "examples", "strands_sqlite_session_manager", "tests")
PATHS = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
DOCUMENTS = [read(path) for path in sorted(PATHS)]


def document(name: str) -> Document:
    """Return one of the documents by its path."""
    return next(found for found in DOCUMENTS if found.path == ROOT / name)


README = document("README.md")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Place:
    """A folder with a database, in a world without a network, in which Bedrock answers."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"the network was asked for {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("strands.agent.agent.BedrockModel", lambda **kwargs: ScriptedModel())
    monkeypatch.delenv("STRANDS_SQLITE_DB_PATH", raising=False)
    for variable, value in {**VARIABLES, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sessions.db").write_bytes(conversations())
    return Place(tmp_path, request, {"__name__": "__document__", **{name: make() for name, make in NAMES.items()}})


# -- SQL --


def said(role: str, *blocks: dict[str, Any], tokens: tuple[int, int] | None = None, latency: int = 0) -> dict[str, Any]:
    message: dict[str, Any] = {"role": role, "content": list(blocks)}
    if tokens is not None:
        usage = {"inputTokens": tokens[0], "outputTokens": tokens[1], "totalTokens": sum(tokens)}
        message["metadata"] = {"usage": usage, "metrics": {"latencyMs": latency}}
    return message


def call(name: str) -> dict[str, Any]:
    return tool_use(name, "1", city="Lisbon")


CONVERSATIONS: dict[str, tuple[str, list[tuple[str, dict[str, Any]]]]] = {
    "trip": (
        "ada",
        [
            ("2026-03-01T10:00:00+00:00", said("user", {"text": "What is the weather?"})),
            ("2026-03-01T10:00:01+00:00", said("assistant", call("weather"), tokens=(10, 5), latency=300)),
            (
                "2026-03-01T10:00:02+00:00",
                said("user", {"toolResult": {"toolUseId": "1", "status": "success", "content": [{"text": "sunny"}]}}),
            ),
            ("2026-03-01T10:00:03+00:00", said("assistant", {"text": "Sunny."}, tokens=(20, 3), latency=200)),
        ],
    ),
    "work": (
        "bob",
        [
            ("2026-03-02T09:00:00+00:00", said("user", {"text": "Summarise this."})),
            (
                "2026-03-02T09:00:05+00:00",
                said("assistant", call("search"), call("weather"), tokens=(100, 50), latency=900),
            ),
        ],
    ),
}
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "Tokens per day": [("2026-03-01", 30, 8, 1), ("2026-03-02", 100, 50, 1)],
    "The most used tools": [("weather", 2), ("search", 1)],
    "The longest conversations": [
        ("trip", 4, "2026-03-01T10:00:00+00:00", "2026-03-01T10:00:03+00:00"),
        ("work", 2, "2026-03-02T09:00:00+00:00", "2026-03-02T09:00:05+00:00"),
    ],
    "Tokens by user, where sessions have a `user_id` in their metadata": [("bob", 150), ("ada", 38)],
    "The slowest answers, each with its question": [
        ("Summarise this.", 900),
        ("What is the weather?", 300),
        (None, 200),
    ],
}
QUERIES = {
    f"{document.path.name}: {block.lead}": (block.lead, block.text)
    for document in DOCUMENTS
    for block in document.blocks
    if block.language == "sql"
}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """The file of the two conversations, as a reader without Python sees it."""
    path = tmp_path_factory.mktemp("queries") / "sessions.db"
    with SQLiteSessionRepository(path) as repository:
        for session_id, (user, messages) in CONVERSATIONS.items():
            repository.create_session(Session(session_id, SessionType.AGENT))
            repository.update_session_metadata(session_id, {"user_id": user})
            repository.create_agent(session_id, SessionAgent("default", {}, {}))
            for index, (moment, message) in enumerate(messages):
                stored = SessionMessage(message, index, created_at=moment)  # type: ignore[arg-type]
                repository.create_message(session_id, "default", stored)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


@pytest.mark.parametrize(("question", "query"), QUERIES.values(), ids=QUERIES)
def test_a_query_answers_the_question_above_it(connection: sqlite3.Connection, question: str, query: str) -> None:
    assert question in ANSWERS, f"say in ANSWERS what the query is to answer: {question}"
    assert connection.execute(query).fetchall() == ANSWERS[question]


# -- what stands in the documents --


SECTIONS = {
    f"{document.path.relative_to(ROOT).as_posix()}: {section.title}": (document, section)
    for document in DOCUMENTS
    for section in document.sections
    if section.blocks
}
# Sentences name programs more often than they run them.
MENTIONED = {
    f"{document.path.relative_to(ROOT).as_posix()}:{line} {code}": code
    for document in DOCUMENTS
    for line, code in document.code
    if code.split()[0].removeprefix(".venv/bin/") in PROGRAMS.keys() - {"cp", "mkdir"} and " " in code
}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_blocks_of_a_section_do_what_they_say(section: str, place: Place) -> None:
    document, found = SECTIONS[section]
    if "fastapi" in found.all:
        pytest.importorskip("fastapi", reason="the extra `examples` has it")
    run_section(document, found, place)


@pytest.mark.parametrize("mentioned", MENTIONED)
def test_a_command_in_a_sentence_can_be_given(mentioned: str, place: Place) -> None:
    for command in commands(MENTIONED[mentioned].replace(f"python -m {package.__name__}", "strands-sqlite")):
        if command.program == "strands-sqlite":
            parse_synopsis(" ".join(command.arguments))
        else:
            rule_for(command)(command, place)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Document) -> None:
    for line, link in document.links:
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        path = (document.path.parent / name).resolve() if name else document.path
        where = f"{document.path.name}:{line}: {link}"
        assert path.exists(), where
        assert not anchor or anchor in read(path).anchors, where


def test_the_documents_are_where_their_readers_look() -> None:
    names = {found.path.relative_to(ROOT).as_posix() for found in DOCUMENTS}
    assert {"README.md", "examples/README.md", "strands_sqlite_session_manager/README.md"} <= names
    assert {f".github/{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")} <= names


def test_the_readme_is_a_page() -> None:
    assert len(README.path.read_text(encoding="utf-8").splitlines()) <= 200


def test_the_tables_of_examples_and_guides_name_them_all() -> None:
    linked = [link for _, link in document("examples/README.md").links]
    examples = [link for link in linked if link[0].isdigit()]
    assert examples == sorted(path.name for path in (ROOT / "examples").glob("[0-9]*.py"))
    guides = [link for link in linked if link.startswith("guides/")]
    assert sorted(guides) == sorted(f"guides/{path.name}" for path in (ROOT / "examples" / "guides").glob("*.md"))


def test_no_rule_is_unused() -> None:
    text = "\n".join(section.all for _, section in SECTIONS.values())
    assert [name for name in (*NAMES, *VARIABLES, *PREPARED) if name not in text] == []
    assert {question for question, _ in QUERIES.values()} == ANSWERS.keys()


# -- tables and code --


def tables(name: str, first: str) -> list[Table]:
    """Return the tables of a document whose first heading is this one."""
    found = [table for table in document(name).tables if table.header[0] == first]
    assert found, f"{name} has no table of {first}"
    return found


def cells(name: str, first: str) -> list[str]:
    """Return the code in the first column of these tables."""
    return [code for table in tables(name, first) for row in table.rows for code in codes(row[0])]


def parse_synopsis(synopsis: str) -> str:
    """Parse a command with everything that its synopsis names; return the command, if there is one.

    Brackets and dots are left out, of alternatives the first is taken, and N is a number.
    """
    words = [re.sub(r"\|.*|\.\.\.", "", word) for word in re.sub(r"[\[\]]", "", synopsis).split()]
    arguments = ["1" if word == "N" else word for word in words]
    group = 2 if arguments[:1] == ["storage"] else 1
    ended = run(*arguments[:group], "--help")
    assert ended.code == 0, ended.err
    for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", synopsis):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", ended.out), f"{option} is not in the help"
    for alternatives in re.findall(r"[\w|]+\|\w+", synopsis):
        assert f"{{{alternatives.replace('|', ',')}}}" in ended.out, f"{alternatives} is not in the help"
    if len(arguments) > group:
        build_parser().parse_args(arguments)
    return words[0] if words else ""


def test_the_table_of_commands_names_them_all_as_they_are() -> None:
    documented = [parse_synopsis(synopsis) for synopsis in cells("examples/guides/command-line.md", "command")]
    assert list(dict.fromkeys(documented)) == re.findall(r"^    (\w+) ", run("--help").out, re.MULTILINE)


def test_the_table_of_parameters_names_them_all_in_order() -> None:
    assert cells("README.md", "parameter") == [name for name, _, _ in parameters(SQLiteSessionManager)]


def test_the_table_of_exceptions_names_them_all() -> None:
    exceptions = {name for name in package.__all__ if name.endswith("Exception")}
    assert all(issubclass(getattr(package, name), SessionException) for name in exceptions)
    documented = [codes(row[0]) for row in tables("examples/guides/handling-errors.md", "exception")[0].rows]
    assert sorted(documented) == [[name] for name in sorted(exceptions)]


def test_the_errors_that_are_quoted_are_those_of_the_code() -> None:
    (table,) = tables("examples/guides/handling-errors.md", "`SessionException` says")
    *rows, (rest, *_) = table.rows
    assert rest == "anything else"
    texts = [text for says, *_ in rows for text in quoted(says)]
    assert len(texts) >= len(rows)
    assert [text for text in texts if not any(text in said for said in said_by_the_package())] == []


ARCHITECTURE = "strands_sqlite_session_manager/README.md"


def test_the_map_of_the_package_names_every_layer() -> None:
    entries = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / ARCHITECTURE).parent.iterdir()
        if path.is_dir() or path.suffix == ".py"
    }
    assert sorted(cells(ARCHITECTURE, "layer")) == sorted(entries - {"__init__.py", "__main__.py", "__pycache__/"})


def test_the_tables_of_the_schema_have_the_columns_of_the_file(connection: sqlite3.Connection) -> None:
    text = "\n".join(text for _, text in document(ARCHITECTURE).text)
    headings = re.findall(r"^\*\*`(\w+)`\*\*: .*?Key: (.+?)\.", text, re.MULTILINE | re.DOTALL)
    documented = {name: codes(keys) for name, keys in headings}
    assert documented == {table.name: list(table.keys) for table in (*TABLES, *STORAGE_TABLES)}
    for table, described in zip((*TABLES, *STORAGE_TABLES), tables(ARCHITECTURE, "column"), strict=True):
        columns = connection.execute(f"PRAGMA table_info({table.name})").fetchall()
        assert sorted(code for row in described.rows for code in codes(row[0])) == sorted(row[1] for row in columns)
        types = {name: (type_, not (not_null or key)) for _, name, type_, not_null, _, key in columns}
        for names, meaning in described.rows:
            for name in codes(names):
                where = f"{table.name}.{name}"
                assert ("integer" in meaning.lower()) == (types[name][0] == "INTEGER"), where
                assert meaning.startswith("JSON") == (name in table.json), where
                assert ("`NULL`" in meaning) == types[name][1], where


def test_the_tables_of_the_views_have_their_columns(connection: sqlite3.Connection) -> None:
    views = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")]
    assert views == ["transcript", "usage"]
    for view in views:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({view})")]
        assert cells("examples/guides/sql.md", f"column of `{view}`") == columns


def test_the_marks_of_the_file_are_those_that_are_written_down(connection: sqlite3.Connection) -> None:
    written = [code for _, code in document(ARCHITECTURE).code]
    assert f"0x{schema.APPLICATION_ID:08X}" in written
    assert connection.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


def test_signatures_in_the_text_are_those_of_the_code() -> None:
    for document in DOCUMENTS:
        for line, code in document.code:
            if is_signature(code):
                try:
                    compare_signature(code)
                except (AssertionError, AttributeError) as error:
                    raise AssertionError(f"{document.path.name}:{line}: {error}") from error


# -- what is wrong or new does not pass --


def written(folder: Path, text: str) -> tuple[Document, Section]:
    """A document of one section."""
    (folder / "DOCUMENT.md").write_text(f"# Title\n\nA sentence:\n\n{text}", encoding="utf-8")
    document = read(folder / "DOCUMENT.md")
    return document, document.sections[-1]


@pytest.mark.parametrize(
    "text",
    [
        "```yaml\na: 1\n```\n",
        "```\nno language\n```\n",
        "```bash\ncurl https://example.org\n```\n",
        "```bash\nstrands-sqlite export | gzip\n```\n",
        "```bash\npip install ./elsewhere\n```\n",
        "```bash\npython -m somebody.else\n```\n",
    ],
)
def test_anything_without_a_rule_fails(text: str, place: Place, tmp_path: Path) -> None:
    with pytest.raises(NoRuleError):
        run_section(*written(tmp_path, text), place)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```bash\nstrands-sqlite list --colour\n```\n", "unrecognized arguments: --colour"),
        ("```bash\nstrands-sqlite show no-session\n```\n", "does not exist"),
        ("```bash\npip install '.[nothing]'\n```\n", "nothing"),
        ("```bash\npython -m pytest tests/test_nothing.py\n```\n", "test_nothing"),
        ("```bash\npython -m tests.benchmarks --nothing\n```\n", "does not know --nothing"),
        ("```python\nSQLiteSessionRepository(db_path=None, *, timeout=30.0)\n```\n", "synchronous"),
        ("```python\nassert my_model is None\n```\n", "assert my_model is None"),
        ("```python\ndef test_nothing(tmp_path):\n    assert tmp_path is None\n```\n", "assert tmp_path is None"),
        ("```bash\nstrands-sqlite check\n```\n\n```text\nsomething else\n```\n", "this is not printed here"),
    ],
)
def test_what_is_wrong_fails(text: str, told: str, place: Place, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as failure:
        run_section(*written(tmp_path, text), place)
    shown = failure.getrepr(style="native")
    assert told in str(shown)


def test_a_quoted_error_is_looked_for_in_what_the_code_says_and_not_in_docstrings() -> None:
    assert quoted("… one thing …, … another, … the end") == ["one thing", "another", "the end"]
    said = said_by_the_package()
    assert "Session … does not exist" in said
    in_a_docstring = "a repository creates no session"
    assert in_a_docstring in (SQLiteSessionRepository.__doc__ or "")
    assert not any(in_a_docstring in text for text in said)
    assert package.__doc__ is not None
    assert not any(package.__doc__.splitlines()[0] in text for text in said)


def test_an_anchor_is_made_as_github_makes_it(tmp_path: Path) -> None:
    document, _ = written(tmp_path, "## In `memory`, for tests\n\n## A-b_c\n\n## A-b_c\n\n[here](#a-b_c-1)\n")
    assert document.anchors == {"title", "in-memory-for-tests", "a-b_c", "a-b_c-1"}
    test_links_lead_somewhere(document)
