"""Every name of Strands that this package relies on: a release that changes one fails here first.

Those that are private are in one module, `context/strands_private.py`.
"""

import ast
import asyncio
import dataclasses
import inspect
import re
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import strands.agent.agent
from strands import Agent
from strands.agent.state import AgentState
from strands.hooks import AfterInvocationEvent, events, registry
from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.session.session_manager import SessionManager
from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

import strands_sqlite_session_manager as package
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.context import strands_private
from strands_sqlite_session_manager.context.strands_private import read_columns

from ..support.histories.history import build, say, user
from ..support.scripted_model import ScriptedModel

VERSION = tuple(int(part) for part in metadata.version("strands-agents").split(".")[:2])
newer = pytest.mark.skipif(VERSION < (1, 62), reason="an older Strands, that may lack it")

REPOSITORY = {
    "create_session": ["session"],
    "read_session": ["session_id"],
    "create_agent": ["session_id", "session_agent"],
    "read_agent": ["session_id", "agent_id"],
    "update_agent": ["session_id", "session_agent"],
    "create_message": ["session_id", "agent_id", "session_message"],
    "read_message": ["session_id", "agent_id", "message_id"],
    "update_message": ["session_id", "agent_id", "session_message"],
    "list_messages": ["session_id", "agent_id", "limit", "offset"],
    "create_multi_agent": ["session_id", "multi_agent"],
    "read_multi_agent": ["session_id", "multi_agent_id"],
    "update_multi_agent": ["session_id", "multi_agent"],
}
MANAGER = {
    "register_hooks": ["registry"],
    "initialize": ["agent"],
    "append_message": ["message", "agent"],
    "sync_agent": ["agent"],
    "redact_latest_message": ["redact_message", "agent"],
    "initialize_multi_agent": ["source"],
    "sync_multi_agent": ["source"],
}
BIDI = {
    "initialize_bidi_agent": ["agent"],
    "append_bidi_message": ["message", "agent"],
    "sync_bidi_agent": ["agent"],
    "redact_latest_bidi_message": ["redact_message", "agent"],
}


def methods(class_: type[Any]) -> dict[str, list[str]]:
    """Return the public methods that a class itself defines, with the names of their parameters."""
    return {
        name: [parameter for parameter in inspect.signature(method).parameters if parameter not in ("self", "kwargs")]
        for name, method in vars(class_).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }


def fields(class_: Any) -> list[str]:
    """Return the names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(class_)]


def test_a_repository_has_these_methods_with_these_parameters() -> None:
    assert methods(SessionRepository) == REPOSITORY


def test_a_manager_has_these_methods_with_these_parameters() -> None:
    found = methods(SessionManager)
    assert found == {**MANAGER, **{name: BIDI[name] for name in found if name in BIDI}}


def test_every_method_of_upstreams_manager_is_replaced_by_ours() -> None:
    found = methods(RepositorySessionManager)
    assert found.keys() <= MANAGER.keys() | BIDI.keys()
    ours = methods(SQLiteSessionManager)
    assert {name: ours.get(name) for name in found} == found


# -- private names --

PRIVATE = {
    "_NAMESPACED",
    "_fix_broken_tool_use",
    "_get_agent_path",
    "_get_session_path",
    "_get_version",
    "_internal_state",
    "_interrupt_state",
    "_model_state",
}
# Private names of Python's locks, and of `argparse`, which has no public way to inspect a parser.
PYTHONS = {"_is_owned", "_SubParsersAction", "_actions", "_option_string_actions", "_replace"}
FOLDER = Path(package.__file__).parent


def private_names(file: Path) -> tuple[set[str], set[str]]:
    """Return the private names of attributes and arguments that a module uses, and the private names it defines."""
    used, defined = set(), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            used.add(node.attr)
        elif isinstance(node, ast.keyword):
            used.add(node.arg or "")
        elif isinstance(node, ast.Attribute):
            defined.add(node.attr)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    return tuple({name for name in names if re.match("_[^_]", name)} for names in (used, defined))  # type: ignore[return-value]


def test_only_one_module_uses_private_names_of_strands_and_these_are_all() -> None:
    found = {file: private_names(file) for file in FOLDER.rglob("*.py")}
    ours = set().union(*(defined for _, defined in found.values())) | PYTHONS
    foreign = {str(file.relative_to(FOLDER)): used - ours for file, (used, _) in found.items() if used - ours}
    assert foreign == {"context/strands_private.py": PRIVATE}


def test_the_repair_of_tool_use_takes_and_returns_messages() -> None:
    assert list(inspect.signature(RepositorySessionManager._fix_broken_tool_use).parameters) == ["self", "messages"]
    with SQLiteSessionManager("a session", ":memory:") as manager:
        assert manager._fix_broken_tool_use([user("fine")]) == [user("fine")]


def test_a_manager_of_files_without_a_session_finds_and_reads_them(tmp_path: Path) -> None:
    theirs = FileSessionManager("a session", storage_dir=str(tmp_path))
    theirs.create_agent("a session", SessionAgent("ada", {"a": 1}, {}))
    manager = strands_private.manager_without_session(FileSessionManager, storage_dir=str(tmp_path))
    folder = tmp_path / "session_a session"
    assert strands_private.session_path(manager, "a session") == str(folder)
    assert strands_private.agent_path(manager, "a session", "ada") == str(folder / "agents" / "agent_ada")
    assert (folder / "agents" / "agent_ada" / "agent.json").is_file()
    agent = manager.read_agent("a session", "ada")
    assert agent is not None
    assert agent.state == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["session_a session"]  # it creates none


def test_a_manager_of_s3_without_a_session_finds_and_reads_them(boto_session: boto3.Session, s3_bucket: str) -> None:
    theirs = S3SessionManager("a session", s3_bucket, prefix="names", boto_session=boto_session)
    theirs.create_agent("a session", SessionAgent("ada", {"a": 1}, {}))
    client = boto_session.client("s3")
    manager = strands_private.manager_without_session(S3SessionManager, bucket=s3_bucket, prefix="names", client=client)
    path = strands_private.session_path(manager, "a session")
    assert path == "names/session_a session/"
    listed = client.list_objects_v2(Bucket=s3_bucket, Prefix="names/")["Contents"]
    assert {entry["Key"] for entry in listed} == {f"{path}session.json", f"{path}agents/agent_ada/agent.json"}
    agent = manager.read_agent("a session", "ada")
    assert agent is not None
    assert agent.state == {"a": 1}


def test_no_private_name_of_ours_is_one_of_upstreams(tmp_path: Path) -> None:
    theirs = FileSessionManager("a session", storage_dir=str(tmp_path))
    with SQLiteSessionManager("a session", ":memory:") as ours:
        for class_ in (SQLiteSessionManager, SQLiteSessionRepository):
            private = {name for name in vars(class_) if re.match("_[^_]", name)} - {"_abc_impl", "_is_protocol"}
            assert not {name for name in private if hasattr(theirs, name)}
        assert {name for name in vars(ours) if not hasattr(theirs, name)} == {
            "_database",
            "_agents",
            "_orchestrators",
        }


def test_the_records_of_a_session_have_these_fields() -> None:
    assert fields(Session) == ["session_id", "session_type", "created_at", "updated_at"]
    assert fields(SessionAgent) == [
        "agent_id",
        "state",
        "conversation_manager_state",
        "_internal_state",
        "created_at",
        "updated_at",
    ]
    assert fields(SessionMessage) == ["message", "message_id", "redact_message", "created_at", "updated_at"]
    assert [member.value for member in SessionType] == ["AGENT"]


def test_a_message_has_these_keys() -> None:
    assert Message.__annotations__.keys() - {"tracking_id", "metadata"} == {"role", "content"}


def test_an_agents_internal_state_has_these_keys() -> None:
    keys = SessionAgent.from_agent(Agent(model=ScriptedModel()))._internal_state.keys()
    assert keys - {"model_state"} == {"interrupt_state"}


def test_an_agents_internal_state_is_restored_from_its_record() -> None:
    internal_state = {
        "interrupt_state": {"interrupts": {}, "context": {"some": "thing"}, "activated": True},
        "model_state": {"response_id": "7"},
    }
    agent = Agent(model=ScriptedModel())
    SessionAgent("default", {}, {}, internal_state).initialize_internal_state(agent)
    found = SessionAgent.from_agent(agent)._internal_state
    assert found == {key: internal_state[key] for key in found}


def test_a_version_that_treats_bidi_agents_specially_has_both_methods_for_it() -> None:
    assert hasattr(SessionAgent, "from_bidi_agent") == hasattr(SessionAgent, "initialize_bidi_internal_state")


def test_private_names_read_the_same_as_the_agents_record() -> None:
    agent = build(None, {"state": {"a": 1}})  # type: ignore[arg-type]
    first = read_columns(agent, None)
    say(agent, "question")
    agent._interrupt_state.context["some"] = "thing"
    record = SessionAgent.from_agent(agent)
    assert {**first.values, **read_columns(agent, first.version).values} == {
        "state": record.state,
        "conversation_manager_state": record.conversation_manager_state,
        "internal_state": strands_private.internal_state_of(record),
    }


@newer
def test_an_unchanged_state_need_not_be_read_again() -> None:
    agent = build(None, {"state": {"a": 1}})  # type: ignore[arg-type]
    first = read_columns(agent, None)
    assert first.values["state"] == {"a": 1}
    assert "state" not in read_columns(agent, first.version).values
    agent.state.set("a", 2)
    second = read_columns(agent, first.version)
    assert second.values["state"] == {"a": 2}
    agent.state = AgentState({"a": 3})  # another object, whose count says nothing
    assert read_columns(agent, second.version).values["state"] == {"a": 3}


@newer
def test_a_state_counts_every_change_and_hands_out_only_copies() -> None:
    assert {name for name in dir(AgentState) if not name.startswith("_")} == {"delete", "get", "set"}
    state = AgentState({"a": [1]})
    versions = [state._get_version()]
    state.set("a", [2])
    versions.append(state._get_version())
    state.delete("a")
    versions.append(state._get_version())
    assert len(set(versions)) == 3
    given: dict[str, Any] = {"deep": []}
    state.set("a", given)
    given["deep"].append("changed")
    state.get("a")["deep"].append("changed")
    state.get()["a"]["deep"].append("changed")
    assert state.get("a") == {"deep": []}


class Spy(SessionManager):
    """Notes which of its methods a hook calls."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def initialize(self, agent: Any, **kwargs: Any) -> None:
        self.called.append("initialize")

    def append_message(self, message: Any, agent: Any, **kwargs: Any) -> None:
        self.called.append("append_message")

    def sync_agent(self, agent: Any, **kwargs: Any) -> None:
        self.called.append("sync_agent")

    def redact_latest_message(self, redact_message: Any, agent: Any, **kwargs: Any) -> None:
        self.called.append("redact_latest_message")

    def initialize_multi_agent(self, source: Any, **kwargs: Any) -> None:
        self.called.append("initialize_multi_agent")

    def sync_multi_agent(self, source: Any, **kwargs: Any) -> None:
        self.called.append("sync_multi_agent")


class Registrations:
    """A registry that notes what is registered, in order."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Any]] = []

    def add_callback(self, event_type: Any, callback: Any, **order: Any) -> None:
        self.found.append((event_type.__name__, callback))


def test_a_manager_receives_these_events_in_this_order() -> None:
    spy, registrations = Spy(), Registrations()
    spy.register_hooks(registrations)  # type: ignore[arg-type]
    event = SimpleNamespace(agent=None, message=None, source=None)
    found = []
    for name, callback in registrations.found:
        if not name.startswith("Bidi"):  # some versions have events of their own for it
            callback(event)
            found.append((name, spy.called.pop()))
    assert found == [
        ("AgentInitializedEvent", "initialize"),
        ("MessageAddedEvent", "append_message"),
        ("MessageAddedEvent", "sync_agent"),
        ("AfterInvocationEvent", "sync_agent"),
        ("MultiAgentInitializedEvent", "initialize_multi_agent"),
        ("AfterNodeCallEvent", "sync_multi_agent"),
        ("AfterMultiAgentInvocationEvent", "sync_multi_agent"),
    ]


def test_our_manager_receives_each_event_once_and_the_event_loop_never_waits_for_it() -> None:
    registrations = Registrations()
    with SQLiteSessionManager("a session", ":memory:") as manager:
        manager.register_hooks(registrations)  # type: ignore[arg-type]
    found = [(name, callback) for name, callback in registrations.found if not name.startswith("Bidi")]
    awaited = [name for name, callback in found if inspect.iscoroutinefunction(callback)]
    # Where hooks have an order, also behind all others.
    after = ["AfterInvocationEvent"] * (2 if hasattr(registry, "HookOrder") else 1)
    updated = ["MessageUpdatedEvent"] if hasattr(events, "MessageUpdatedEvent") else []
    nodes = ["AfterNodeCallEvent", "AfterMultiAgentInvocationEvent"]
    assert awaited == [*updated, "MessageAddedEvent", *after, *nodes]
    waited_for = [name for name, callback in found if not inspect.iscoroutinefunction(callback)]
    assert waited_for == ["AgentInitializedEvent", "MultiAgentInitializedEvent"]  # no loop runs yet


def test_an_agent_calls_only_these_methods_of_its_manager_itself() -> None:
    source = inspect.getsource(strands.agent.agent)
    assert set(re.findall(r"_session_manager\.(\w+)\(", source)) == {"redact_latest_message", "sync_agent"}


def test_a_manager_receives_a_message_before_any_hook_and_the_end_after_all_hooks() -> None:
    heard: list[str] = []

    class Listening(Spy):
        def append_message(self, message: Any, agent: Any, **kwargs: Any) -> None:
            heard.append("manager: message")

        def sync_agent(self, agent: Any, **kwargs: Any) -> None:
            heard.append("manager: sync")

    agent = build(Listening(), {})
    agent.hooks.add_callback(events.MessageAddedEvent, lambda event: heard.append("hook: message"))
    agent.hooks.add_callback(events.AfterInvocationEvent, lambda event: heard.append("hook: end"))
    say(agent, "question")
    message = ["manager: message", "manager: sync", "hook: message"]
    assert heard == [*message, *message, "hook: end", "manager: sync"]


@newer
def test_our_manager_receives_the_end_after_every_hook_of_any_order() -> None:
    heard: list[str] = []

    class Listening(SQLiteSessionManager):
        def sync_agent(self, agent: Any, **kwargs: Any) -> None:
            heard.append("manager")

    with Listening("a session", ":memory:") as manager:
        agent = build(manager, {})
        for order in (-1, 0, registry.HookOrder.SDK_LAST, 1_000_000, float("inf")):
            agent.hooks.add_callback(
                AfterInvocationEvent, lambda event, order=order: heard.append(str(order)), order=order
            )
        say(agent, "question")
    assert heard[-7:] == ["-1", "0", "manager", "100", "1000000", "inf", "manager"]


@newer
def test_our_manager_receives_a_message_that_was_replaced() -> None:
    with SQLiteSessionManager("a session", ":memory:") as manager:
        agent = build(manager, {})
        say(agent, "question")
        said = agent.messages[0]
        agent.messages[0] = {**said, "content": [{"text": "what was really asked"}]}
        updated = events.MessageUpdatedEvent(agent, said["tracking_id"], agent.messages[0])
        asyncio.run(agent.hooks.invoke_callbacks_async(updated))
        listed = manager.list_messages("a session", "default")
    assert [message.to_message() for message in listed] == agent.messages
