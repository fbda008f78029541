"""Rules for the blocks and commands of a document: run them where possible, inspect them elsewhere.

Anything without a rule raises a `NoRuleError`.
"""

import ast
import functools
import importlib.metadata
import importlib.util
import inspect
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import InvalidRequirement, Requirement
from strands import Agent
from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager

import strands_sqlite_session_manager as package
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.cli.parser import build_parser

from . import legacy_files
from .command_line import ROOT, environment, run
from .markdown import Block, Document, Section
from .scripted_model import ScriptedModel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]

# What the documents call something that the reader has, and what it is here.
NAMES: dict[str, Callable[[], Any]] = {"my_model": ScriptedModel, "tenant_id": lambda: "acme"}
VARIABLES = {"SESSIONS_KEY": "0123456789abcdef" * 4}
BUCKET = "my-bucket"
NEWER = "SQLiteStorage"  # the public name that older versions of Strands lack
NEEDS_NEWER = (NEWER, "snapshots:", "metadata.usage")  # a section with one of these needs a newer Strands
HAS_NEWER = importlib.util.find_spec("strands.storage") is not None
FOLDER = "/var/lib/my-app"


class NoRuleError(Exception):
    """The document contains something for which no test has a rule."""


# -- where the blocks of a section are run --


@dataclass
class Place:
    """A temporary folder with files, which is the current folder, and what was done there.

    Attributes:
        folder: The folder.
        request: The test.
        namespace: The names that Python code has defined.
        printed: What each command has printed.
    """

    folder: Path
    request: pytest.FixtureRequest
    namespace: dict[str, Any] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)

    def located(self, text: str) -> str:
        """Replace the reader's folder by this one."""
        return text.replace(FOLDER, (self.folder / "my-app").as_posix())


def talk(manager: Any) -> None:
    """Have a conversation of six messages."""
    agent = Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None)
    for text in ("I am going to Lisbon in May.", "What is the weather like?", "And in Porto?"):
        agent(text)


@functools.cache
def conversations() -> bytes:
    """A database file with two sessions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        for session_id in ("another-session", "my-session"):
            with SQLiteSessionManager(session_id, path, metadata={"user_id": "42"}) as manager:
                talk(manager)
        return path.read_bytes()


def prepare_folder(place: Place) -> None:
    talk(FileSessionManager("from-files", storage_dir=place.located(f"{FOLDER}/sessions")))


def prepare_bucket(place: Place) -> None:
    client = place.request.getfixturevalue("boto_session").client("s3")
    client.create_bucket(Bucket=BUCKET)
    talk(S3SessionManager("from-s3", bucket=BUCKET, prefix="production"))

    def remove() -> None:
        for found in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
            client.delete_object(Bucket=BUCKET, Key=found["Key"])
        client.delete_bucket(Bucket=BUCKET)

    place.request.addfinalizer(remove)


def prepare_legacy_file(place: Place) -> None:
    (place.folder / "sessions.db").unlink()
    legacy_files.write(place.folder / "sessions.db", legacy_files.example())


# What a section finds besides the usual file if its title or its blocks name it.
PREPARED: dict[str, Callable[[Place], None]] = {
    FOLDER: prepare_folder,
    BUCKET: prepare_bucket,
    "From a legacy file": prepare_legacy_file,
}


# -- a rule for each language --


def run_section(document: Document, section: Section, place: Place) -> None:
    """Run the blocks of a section; SQL has tests of its own."""
    if not HAS_NEWER and any(word in block.text for word in NEEDS_NEWER for block in section.blocks):
        pytest.skip("this Strands is too old for what the section shows")
    for named, prepare in PREPARED.items():
        if named in section.all:
            prepare(place)
    for block in section.blocks:
        print(f"{document.path.name}:{block.line}: {block.language}")  # pytest shows it where something fails
        if block.language not in LANGUAGES:
            raise NoRuleError(f"there is no rule for a block of {block.language or 'no language'}")
        LANGUAGES[block.language](document, section, block, place)


def run_python(document: Document, section: Section, block: Block, place: Place) -> None:
    """Run a block, and the tests that it defines; or compare the signatures that it consists of."""
    try:
        ast.parse(block.text)
    except SyntaxError:
        for signature in re.split(r"\n(?=\w)", block.text.strip()):
            compare_signature(signature)
        return
    # The empty lines make tracebacks show the lines of the document.
    code = compile("\n" * (block.line - 1) + place.located(block.text), str(document.path), "exec")
    before = dict(place.namespace)
    with redirect_stdout(StringIO()) as printed:
        exec(code, place.namespace)
        for name, value in list(place.namespace.items()):
            if name.startswith("test_") and before.get(name) is not value:
                value(
                    **{
                        fixture: place.request.getfixturevalue(fixture)
                        for fixture in inspect.signature(value).parameters
                    }
                )
    place.printed.append(printed.getvalue())


def run_bash(document: Document, section: Section, block: Block, place: Place) -> None:
    """Run the commands of a block that can be run, and examine the others."""
    for command in commands(block.text):
        rule_for(command)(command, place)


def compare_printed(document: Document, section: Section, block: Block, place: Place) -> None:
    """Find the lines of a block, ignoring numbers, in what a command of the section prints."""
    examples = {name for other in section.blocks for name in re.findall(r"examples/\w+\.py", other.text)}
    wanted = comparable(block.text)
    outputs = [comparable(output) for output in [*place.printed, *map(output_of, sorted(examples))]]
    for output in outputs:
        rest = iter(output)
        if all(line in rest for line in wanted):
            return
    raise AssertionError(f"this is not printed here:\n{block.text}\nbut this is:\n{outputs}")


def comparable(text: str) -> list[str]:
    """Return the lines of an output without what differs each time."""
    return [re.sub(r"\d+", "0", line.rstrip()) for line in text.splitlines() if line.strip() not in ("", "...")]


LANGUAGES: dict[str, Callable[[Document, Section, Block, Place], None]] = {
    "python": run_python,
    "bash": run_bash,
    "text": compare_printed,
    "sql": lambda *_: None,
}


# -- a rule for each program --


@dataclass
class Command:
    """A command as a shell understands it.

    Attributes:
        words: The program and its arguments.
        variables: The environment variables that it is given.
        output: The file that gets what it prints.
    """

    words: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    output: str | None = None

    @property
    def program(self) -> str:
        """The program, without the virtual environment that it is in."""
        return self.words[0].removeprefix(".venv/bin/")

    @property
    def arguments(self) -> list[str]:
        """What follows the program."""
        return self.words[1:]


def commands(text: str) -> Iterator[Command]:
    """Yield the commands of a script."""
    for line in text.replace("\\\n", " ").splitlines():
        tokens = shlex.shlex(line, posix=True, punctuation_chars=True)
        tokens.whitespace_split = True
        command = Command()
        for token in tokens:
            if token in ("&&", ";"):
                yield command
                command = Command()
            elif token == ">":
                command.output = next(tokens)
            elif set(token) <= set("();<>|&"):
                raise NoRuleError(f"there is no rule for {token} in: {line}")
            elif not command.words and re.fullmatch(r"[A-Z_]+=.*", token):
                name, _, value = token.partition("=")
                command.variables[name] = value
            else:
                command.words.append(token)
        if command.words:
            yield command


def rule_for(command: Command) -> Callable[[Command, Place], None]:
    if command.program not in PROGRAMS:
        raise NoRuleError(f"there is no rule for {command.program}")
    return PROGRAMS[command.program]


def run_ours(command: Command, place: Place) -> None:
    """Run `strands-sqlite`."""
    arguments = [place.located(argument) for argument in command.arguments]
    if any(argument.startswith("postgresql://") for argument in arguments):
        build_parser().parse_args(arguments)  # it needs a server: test_postgresql.py
        return
    with pytest.MonkeyPatch.context() as variables:
        for name, value in command.variables.items():
            variables.setenv(name, value)
        ended = run(*arguments)
    assert ended.code == 0, ended.err
    assert not ended.out.startswith("0 of 0 "), "there was nothing to copy"
    if command.output is None:
        place.printed.append(ended.out)
    else:
        (place.folder / command.output).write_text(ended.out, encoding="utf-8")


def run_as_it_is(command: Command, place: Place) -> None:
    """Run a program that every system except Windows has."""
    if shutil.which(command.program) is None:
        pytest.skip(f"{command.program} is not there")
    done = subprocess.run(command.words, cwd=place.folder, capture_output=True, text=True, check=True)
    place.printed.append(done.stdout)


def run_interpreter(command: Command, place: Place) -> None:
    """Run what Python is told to run: a module, a line of code, or an example."""
    match command.arguments:
        case ["-m", "venv", _]:
            pass
        case ["-m", module, *arguments] if module == package.__name__:
            run_ours(Command(["strands-sqlite", *arguments], command.variables, command.output), place)
        case ["-m", ("pip" | "pytest" | "mypy" | "ruff") as module, *arguments]:
            PROGRAMS[module](Command([module, *arguments]), place)
        case ["-m", module, *arguments]:
            check_module(module, arguments)
        case ["-c", code]:
            subprocess.run([sys.executable, "-c", code], cwd=place.folder, capture_output=True, check=True)
        case [script] if re.fullmatch(r"examples/\d\d_\w+\.py", script):
            check_example(script, command.variables)
        case _:
            raise NoRuleError(f"there is no rule for {command.words}")


@functools.cache
def output_of(example: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, example],
        cwd=ROOT,
        env=environment({"STRANDS_EXAMPLES_MODEL": None}),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


# The following is not run: it would need a network, take minutes, or repeat this test.


def check_example(script: str, variables: dict[str, str]) -> None:
    """Check that the example exists, and that it or its model knows the variables; `.ci/run` runs them all."""
    sources = [(ROOT / name).read_text(encoding="utf-8") for name in (script, "examples/offline_model.py")]
    for name, value in variables.items():
        assert any(f'"{name}"' in source and f'"{value.partition(":")[0]}"' in source for source in sources), name


def check_module(module: str, arguments: list[str]) -> None:
    """Check that the program exists in this repository, and that it knows the options and the words."""
    if not module.startswith("tests."):
        raise NoRuleError(f"there is no rule for the module {module}")
    assert importlib.util.find_spec(module) is not None, module
    program = importlib.util.find_spec(f"{module}.__main__") or importlib.util.find_spec(module)
    assert program is not None
    assert program.origin is not None
    source = Path(program.origin).read_text(encoding="utf-8")
    for argument in arguments:
        is_known = argument == "--help" or f'"{argument}"' in source or (ROOT / argument).exists()
        assert is_known, f"{module} does not know {argument}"


def check_pip(command: Command, place: Place) -> None:
    """Check that the packages to install exist, with their extras."""
    assert command.arguments[0] == "install", command.words
    for argument in command.arguments[1:]:
        if local := re.fullmatch(r"\.(?:\[([\w,]+)\])?", argument):
            assert set((local[1] or "").split(",")) <= {"", *EXTRAS}, argument
        elif argument not in ("-q", "-e", "-U"):
            check_requirement(argument)


def check_requirement(text: str) -> None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise NoRuleError(f"there is no rule for installing {text}") from error
    if requirement.name == "strands-agents":
        known = importlib.metadata.metadata(requirement.name).get_all("Provides-Extra") or []
        assert requirement.extras <= set(known), text


def check_pytest(command: Command, place: Place) -> None:
    """Check that pytest would understand it, and that the paths and markers exist."""
    config = place.request.config
    known, unknown = config._parser.parse_known_and_unknown_args(command.arguments)
    assert not unknown, f"pytest does not know {unknown}"
    for path in known.file_or_dir:
        assert (ROOT / str(path).partition("::")[0]).exists(), path
    markers = {marker.partition(":")[0] for marker in config.getini("markers")}
    assert set(re.findall(r"\w+", known.markexpr)) <= markers | {"not", "and", "or"}, known.markexpr


def check_tool(command: Command, place: Place) -> None:
    """Check that the tool is in the extra for development, and that its paths exist."""
    assert command.program in {Requirement(text).name for text in EXTRAS["dev"]}
    for argument in command.arguments:
        assert argument in ("check", "format", "--check", "--strict") or (ROOT / argument).exists(), argument


def check_script(command: Command, place: Place) -> None:
    """Check that the script exists, unless this is a source distribution, which does not have it."""
    (script,) = command.arguments
    assert (ROOT / script).is_file() or not (ROOT / ".git").exists()


PROGRAMS: dict[str, Callable[[Command, Place], None]] = {
    "strands-sqlite": run_ours,
    "cp": run_as_it_is,
    "mkdir": run_as_it_is,
    "python": run_interpreter,
    "python3": run_interpreter,
    "py": run_interpreter,
    "pip": check_pip,
    "pytest": check_pytest,
    "mypy": check_tool,
    "ruff": check_tool,
    "bash": check_script,
}


# -- what the code says --


@functools.cache
def said_by_the_package() -> tuple[str, ...]:
    """Return every text in the package's code except docstrings, with `…` for each value inserted into one."""
    texts: list[str] = []
    for path in (ROOT / package.__name__).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                texts.append(node.value)
    return tuple(texts)


def quoted(cell: str) -> list[str]:
    """Return the parts of errors that a cell quotes: `… one …, … another`."""
    return [part.strip(" ,") for part in cell.split("…") if part.strip(" ,")]


# -- signatures --


def is_signature(code: str) -> bool:
    """Return whether code can only be a signature."""
    try:
        ast.parse(code)
    except SyntaxError:
        try:
            ast.parse(f"def {code}: ...")
        except SyntaxError:
            return False
        return True
    return False


def compare_signature(text: str) -> None:
    """Compare a signature with what has this name in the package: the parameters, their order, kinds and defaults."""
    name = text.partition("(")[0]
    if name == NEWER and not HAS_NEWER:
        return
    defined: dict[str, Any] = {}
    exec(f"def {text}: ...", defined)
    real = getattr(package, name, None) or getattr(SQLiteSessionRepository, name)
    assert parameters(defined[name]) == parameters(real), f"{name}{inspect.signature(real)}"


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Return the parameters of a function, except `self` and the `kwargs` that Strands reserves for the future."""
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("self", "kwargs")
    ]
