"""Where Strands has no storage, the name says which version has one, and everything else works."""

import importlib.util
import subprocess
import sys

import pytest

import strands_sqlite_session_manager

from ..support.command_line import ROOT, environment

HAS_STORAGE = importlib.util.find_spec("strands.storage") is not None


@pytest.mark.skipif(HAS_STORAGE, reason="this Strands has a storage")
def test_the_name_says_which_strands_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install -U 'strands-agents>=1\.48'"):
        strands_sqlite_session_manager.SQLiteStorage  # noqa: B018


@pytest.mark.long
@pytest.mark.skipif(not HAS_STORAGE, reason="this Strands has no storage anyway")
def test_without_a_storage_of_strands_the_name_says_which_one_to_install() -> None:
    code = (
        "import sys, strands\n"
        "sys.modules['strands.storage'] = None\n"
        "import strands_sqlite_session_manager as package\n"
        "package.SQLiteSessionManager\n"
        "try:\n"
        "    package.SQLiteStorage\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment({}), capture_output=True, text=True, check=True
    ).stdout
    assert "needs strands-agents 1.48 or newer" in told
