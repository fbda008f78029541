"""Shell completion: a short script for each shell, which asks the command line itself."""

import argparse
import contextlib
import os

from ..database.database import Database
from . import opening
from .ids import ids_that_begin

_MOST = 100  # session ids to offer
_ASK = "strands-sqlite completion"
SCRIPTS = {
    "bash": f"""\
_strands_sqlite() {{
    local IFS=$'\\n'
    COMPREPLY=($({_ASK} bash -- "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
}}
complete -o default -F _strands_sqlite strands-sqlite
""",
    "zsh": f"""\
#compdef strands-sqlite
_strands_sqlite() {{
    local -a found
    found=(${{(f)"$({_ASK} zsh -- "${{(@)words[2,CURRENT]}}" 2>/dev/null)"}})
    if (( ${{#found}} )); then compadd -a found; else _files; fi
}}
compdef _strands_sqlite strands-sqlite
""",
    "fish": f"""\
complete -c strands-sqlite -a '({_ASK} fish -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
""",
}


def completion(arguments: argparse.Namespace) -> None:
    """Print the script for a shell or, when that script calls, the completions of the last word."""
    if not arguments.words:
        print(SCRIPTS[arguments.shell], end="")
        return
    from .parser import build_parser  # which imports this module

    *before, current = arguments.words
    for word in _candidates(build_parser(), before, current):
        if word.startswith(current) and word.isprintable():
            print(word)


def _candidates(parser: argparse.ArgumentParser, before: list[str], current: str) -> list[str]:
    positionals: list[str] = []
    values: dict[str, str] = {}
    waiting: argparse.Action | None = None  # an option that has no value yet
    for word in before:
        commands = _commands(parser)
        if waiting is not None:
            values[waiting.dest], waiting = word, None
        elif word.startswith("-"):
            option = parser._option_string_actions.get(word)
            waiting = option if option is not None and option.nargs != 0 else None
        elif word in commands:
            parser, positionals = commands[word], []
        else:
            positionals.append(word)
    if waiting is None and current.startswith("-"):
        return [name for name in parser._option_string_actions if name.startswith("--")]
    commands = _commands(parser)
    if waiting is None and commands:
        return list(commands)
    return _values(waiting or _positional(parser, len(positionals)), values, current)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _positional(parser: argparse.ArgumentParser, index: int) -> argparse.Action | None:
    actions = [action for action in parser._actions if not action.option_strings]
    if index < len(actions):
        return actions[index]
    return actions[-1] if actions and actions[-1].nargs in ("*", "+") else None


def _values(action: argparse.Action | None, values: dict[str, str], current: str) -> list[str]:
    """Return the possible values of an argument; none where any text or file will do."""
    if action is None:
        return []
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    if action.dest in ("session", "source") and action.metavar in ("SESSION", "SOURCE"):
        with contextlib.suppress(Exception):  # an error must not disturb the typing
            return _session_ids(values, current)
    return []


def _session_ids(values: dict[str, str], current: str) -> list[str]:
    path = opening.existing_file(values.get("db") and os.path.expanduser(values["db"]))
    database = Database(path, read_only=True, connect=opening.connect_function(values.get("connect")))
    try:
        return ids_that_begin(database, current, _MOST)
    finally:
        database.close()
