"""All untrusted input leads to a result or a documented exception: ids, values, imports, arguments, whole files.

The properties are in this folder. The quick tests try random inputs; the last test lets a fuzzer look for inputs that
reach every branch of the package, if atheris is installed.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support.command_line import ROOT, environment
from .__main__ import NAMES
from .targets import TARGETS

EXAMPLES = {"ids": 6000, "values": 5000, "lines": 3000, "arguments": 6000, "files": 1000}  # each takes a few minutes


def test_every_target_has_a_name_on_the_command_line() -> None:
    assert tuple(TARGETS) == NAMES == tuple(EXAMPLES)


@pytest.mark.every_case
@pytest.mark.parametrize("name", TARGETS)
def test_any_input_has_a_result_or_a_documented_exception(name: str) -> None:
    TARGETS[name].test()()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TARGETS)
def test_thousands_of_inputs_have_a_result_or_a_documented_exception(name: str, scaled: Callable[[int], int]) -> None:
    """6,000 ids, 5,000 values, 3,000 imports, 6,000 command lines and 1,000 database files."""
    TARGETS[name].test(scaled(EXAMPLES[name]))()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_a_fuzzer_that_looks_for_new_branches_finds_no_other_outcome(
    name: str, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """Two minutes of fuzzing by coverage for each target."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz", name, f"-max_total_time={scaled(120)}", "-timeout=60"),
            *("-rss_limit_mb=4096", f"-artifact_prefix={tmp_path}/", "-print_final_stats=1", str(corpus)),
        ],
        cwd=ROOT,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert "stat::number_of_executed_units" in ended.stdout
    assert list(corpus.iterdir()) != []
