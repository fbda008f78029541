"""Shells complete commands, options and the ids of the sessions in the file."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ..support.command_line import COMMAND, environment, fill, run


@pytest.fixture
def db(path: Path) -> Path:
    fill(path)
    return path


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("sta",), ["stats"]),
        (("storage", ""), ["list", "get", "delete"]),
        (("show", "--form"), ["--format"]),
        (("show", "--format", ""), ["text", "markdown", "json"]),
        (("show", ""), ["island", "ship"]),
        (("show", "sh"), ["ship"]),
        (("show", "ship", ""), []),
        (("delete", "ship", "i"), ["island"]),
        (("fork", "s"), ["ship"]),
        (("fork", "ship", ""), []),
        (("search", "sail", "--session", "s"), ["ship"]),
        (("search", ""), []),
        (("export", "-o", ""), []),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("nonsense", "x"), []),
        (("--db", "missing.db", "show", ""), []),
    ],
    ids=" ".join,
)
def test_the_last_word_is_completed(
    typed: tuple[str, ...], offered: list[str], db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(db))
    ended = run("completion", "bash", "--", *typed)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == offered


def test_the_file_can_be_named_before_the_command(db: Path) -> None:
    assert run("completion", "bash", "--", "--db", db, "show", "").out.splitlines() == ["island", "ship"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(db: Path) -> None:
    script = f"""
strands-sqlite() {{ {" ".join(COMMAND)} "$@"; }}
eval "$(strands-sqlite completion bash)"
complete -p strands-sqlite
COMP_WORDS=(strands-sqlite show sh); COMP_CWORD=2
_strands_sqlite
printf '<%s>' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env=environment({"STRANDS_SQLITE_DB_PATH": str(db)}),
        check=False,
    )
    assert (done.stdout, done.stderr) == (
        "complete -o default -F _strands_sqlite strands-sqlite\n<ship>",
        "",
    )


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_a_shell_is_one_that_it_reads(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    script = run("completion", shell).out
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
