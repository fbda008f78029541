"""What Strands ships to extend an agent, together with a session: plugins, tools, interventions, memory, tracing."""

import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool

import strands_sqlite_session_manager
from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.histories.history import TOOLS, accepts, call, say
from ..support.recording_manager import held
from ..support.scripted_model import OVERFLOW, REDACT_INPUT, ScriptedModel
from ..support.watched_agents import SESSION, Build, resume, watch

Arguments = Callable[[], dict[str, Any]]


def vended(module: str, name: str) -> Any:
    """Import what the installed Strands ships, or skip the test where it ships nothing of the name."""
    try:
        return getattr(importlib.import_module(f"strands.{module}"), name)
    except (ImportError, AttributeError):
        pytest.skip(f"this Strands has no {name}")


def needs(parameter: str) -> None:
    """Skip the test where agents do not take a parameter."""
    if not accepts(Agent, parameter):
        pytest.skip(f"agents of this Strands take no {parameter}")


def built_with(arguments: Arguments) -> Build:
    """Build an agent that has the tools of the battery beside its own."""

    def build(manager: SQLiteSessionManager) -> Agent:
        given = arguments()
        tools = [*TOOLS, *given.pop("tools", ())]
        return Agent(
            **{"model": ScriptedModel(), "callback_handler": None, "session_manager": manager, "tools": tools, **given}
        )

    return build


def tool_result(agent: Agent, tool_use_id: str) -> str:
    """Return what a tool answered, as the agent holds it."""
    for message in agent.messages:
        for block in message["content"]:
            if "toolResult" in block and block["toolResult"]["toolUseId"] == tool_use_id:
                return str(block["toolResult"]["content"])
    raise LookupError(tool_use_id)


def answer(agent: Agent, result: Any, response: Any, *replies: Any) -> Any:
    """Answer every interrupt of a turn."""
    responses = [
        {"interruptResponse": {"interruptId": interrupt.id, "response": response}} for interrupt in result.interrupts
    ]
    return say(agent, responses, *replies)


# -- plugins --


def yes(response: Any, agent: Agent) -> bool:
    """Assert that the model says yes."""
    return "yes" in str(response["content"])


@pytest.mark.parametrize("preserve_context", [True, False])
def test_an_agent_that_retries_until_a_goal_is_met_resumes(tmp_path: Path, preserve_context: bool) -> None:
    goal_loop = vended("vended_plugins.goal", "GoalLoop")

    def drive(agent: Agent) -> None:
        say(agent, "first", "yes")
        say(agent, "write", [call("remember", "t1", key="tries", value=1)], "no", "still no", "yes")

    plugins = {"max_attempts": 5, "preserve_context": preserve_context}
    again, _ = watch(tmp_path / "sessions.db", built_with(lambda: {"plugins": [goal_loop(yes, **plugins)]}), drive)
    assert again.state.get("tries") == 1
    assert yes(say(again, "once more", "no", "no", "yes").message, again)


def test_activated_skills_stay_activated(tmp_path: Path) -> None:
    skills, skill = vended("vended_plugins.skills", "AgentSkills"), vended("vended_plugins.skills", "Skill")
    sources = [skill(name="pdf", description="reads PDF", instructions="Open it.")]
    again, _ = watch(
        tmp_path / "sessions.db",
        built_with(lambda: {"system_prompt": "Be kind.", "plugins": [skills(skills=sources)]}),
        lambda agent: say(agent, "use it", [call("skills", "t1", skill_name="pdf")], "done"),
    )
    assert again.state.get("agent_skills")["activated_skills"] == ["pdf"]
    say(again, "and on")
    assert str(again.system_prompt).count("<name>pdf</name>") == 1


def test_injected_context_is_sent_to_the_model_and_not_stored(tmp_path: Path) -> None:
    injector = vended("vended_plugins.context_injector", "ContextInjector")
    told: list[str] = []

    def drive(agent: Agent) -> None:
        say(agent, "question", lambda messages: (told.append(str(messages)), "answer")[1])

    build = built_with(lambda: {"plugins": [injector(lambda context: "it is noon", trigger="everyTurn")]})
    again, _ = watch(tmp_path / "sessions.db", build, drive)
    assert "it is noon" in told[0]
    assert "it is noon" not in str(again.messages)


def steering() -> Any:
    """Build a handler that guides the model, denies one tool, and asks a person about another."""
    base = vended("vended_plugins.steering", "SteeringHandler")
    guide, interrupt = vended("vended_plugins.steering", "Guide"), vended("vended_plugins.steering", "Interrupt")
    proceed, ledger = vended("vended_plugins.steering", "Proceed"), vended("vended_plugins.steering", "LedgerProvider")

    class Steering(base):  # type: ignore[misc]
        async def steer_before_tool(self, *, agent: Agent, tool_use: Any, **kwargs: Any) -> Any:
            if tool_use["name"] == "lookup":
                return guide(reason="look elsewhere")
            return interrupt(reason="may I?") if tool_use["name"] == "recite" else proceed(reason="")

        async def steer_after_model(self, *, agent: Agent, message: Any, stop_reason: Any, **kwargs: Any) -> Any:
            return guide(reason="be kinder") if "rude" in str(message["content"]) else proceed(reason="")

    return Steering(context_providers=[ledger()])


def test_a_steered_agent_resumes(tmp_path: Path) -> None:
    def drive(agent: Agent) -> None:
        say(agent, "question", "a rude answer", "another rude answer", "a kind answer")
        say(agent, "look", [call("lookup", "t1", key="a")], "done")

    again, _ = watch(tmp_path / "sessions.db", built_with(lambda: {"plugins": [steering()]}), drive)
    assert "be kinder" in str(again.messages)
    assert "rude" not in str(again.messages)
    assert "look elsewhere" in tool_result(again, "t1")


# -- context that is offloaded --


def offload(agent: Agent) -> None:
    """Offload results that are too long, and look one up."""
    say(agent, "recite", [call("recite", "t1", lines=2000)], "long")
    say(agent, "look", [call("retrieve_offloaded_content", "t2", reference="t1_0", pattern="line 1777 of")], "there")
    assert "Offloaded" in tool_result(agent, "t1")
    assert "line 1777 of 2000" in tool_result(agent, "t2")


def storage_in(folder: Path, kind: str) -> Any:
    """Return a storage that outlives the process: a folder, or the file of the session itself."""
    needs("storage")
    if kind == "folder":
        return vended("storage", "LocalFileStorage")(str(folder / "storage"))
    return strands_sqlite_session_manager.SQLiteStorage(folder / "sessions.db")


STORAGES = pytest.mark.parametrize("kind", ["folder", "file"])


@STORAGES
@pytest.mark.parametrize("shared", [False, True], ids=["of its own", "of the agent"])
def test_what_is_offloaded_to_a_storage_is_found_after_a_restart(tmp_path: Path, kind: str, shared: bool) -> None:
    offloader, storage = vended("vended_plugins.context_offloader", "ContextOffloader"), storage_in(tmp_path, kind)
    build = built_with(
        lambda: {"storage": storage, "plugins": [offloader()]} if shared else {"plugins": [offloader(storage)]}
    )
    again, _ = watch(tmp_path / "sessions.db", build, offload)
    say(again, "look", [call("retrieve_offloaded_content", "t3", reference="t1_0", pattern="line 999 of")], "there")
    assert "line 999 of 2000" in tool_result(again, "t3")


def needs_stash() -> None:
    """Skip the test where what is taken out of the context is not stashed."""
    if not hasattr(Agent, "context_manager"):
        pytest.skip("this Strands has no stash")


def stash(agent: Agent) -> None:
    """Stash results that are too long, look one up, and summarize them when there are too many."""
    say(agent, "recite", [call("recite", "t1", lines=2000)], "long")
    say(agent, "look", [call("retrieve_context", "t2", reference="t1_0", pattern="line 1777 of")], "there")
    assert "line 1777 of 2000" in tool_result(agent, "t2")
    say(agent, "too much", OVERFLOW, "a summary", "now it fits")
    say(agent, "recite", [call("recite", "t3", lines=3000)], "long")


def stashing_in(storage: Any) -> Build:
    """Build an agent with an automatic context, whose stash is in a storage that outlives the process."""
    needs_stash()
    return built_with(lambda: {"context_manager": "auto", "storage": storage})


def found_again(agent: Agent) -> bool:
    """Return whether the stash returns what was stored in it before the restart."""
    say(agent, "look", [call("retrieve_context", "t9", reference="t3_0", pattern="line 2777 of")], "there")
    return "line 2777 of 3000" in tool_result(agent, "t9")


@STORAGES
def test_what_is_stashed_in_a_storage_is_found_after_a_restart(tmp_path: Path, kind: str) -> None:
    again, _ = watch(tmp_path / "sessions.db", stashing_in(storage_in(tmp_path, kind)), stash)
    assert found_again(again)


def test_what_is_stashed_in_memory_is_found_after_a_restart(tmp_path: Path) -> None:
    needs_stash()
    again, _ = watch(tmp_path / "sessions.db", built_with(lambda: {"context_manager": "auto"}), stash)
    assert found_again(again)


@pytest.mark.xfail(reason="a stash belongs to the session that it was made in")
def test_what_is_stashed_is_found_in_a_fork(tmp_path: Path) -> None:
    build = stashing_in(storage_in(tmp_path, "folder"))
    watch(tmp_path / "sessions.db", build, stash)
    with SQLiteSessionManager(SESSION, tmp_path / "sessions.db") as manager:
        manager.fork_session(SESSION, "the fork")
    assert found_again(build(SQLiteSessionManager("the fork", tmp_path / "sessions.db")))


@pytest.mark.xfail(reason="Strands stashes a message before it is redacted, and the stash is not told")
def test_what_is_redacted_is_gone_from_the_stash(tmp_path: Path) -> None:
    build = stashing_in(storage_in(tmp_path, "folder"))
    watch(tmp_path / "sessions.db", build, lambda agent: say(agent, "my card is 4111-1111", REDACT_INPUT))
    assert not any(b"4111-1111" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("strategy", ["proactive_summarization", "overflow_protection", "stale_tool_cleanup"])
def test_an_agent_with_a_strategy_for_its_context_resumes(tmp_path: Path, strategy: str) -> None:
    vended("_context_manager.presets", "STRATEGY_PRESET_NAMES")
    strategies = ["large_tool_offloading", strategy]
    build = built_with(lambda: {"context_manager": {"strategies": strategies, "stash": False}})

    def drive(agent: Agent) -> None:
        say(agent, "recite", [call("recite", "t1", lines=2000), call("recite", "t2", lines=9)], "long")
        say(agent, "too much", OVERFLOW, "a summary", "now it fits")

    again, _ = watch(tmp_path / "sessions.db", build, drive)
    assert say(again, "and on").stop_reason == "end_turn"


# -- tools --


TOOL_CALLS: dict[str, dict[str, Any]] = {
    "shell": {"command": "echo done"},
    "python_repl": {"code": "print('done')"},
    "file_editor": {"command": "create", "path": "{folder}/file", "file_text": "done"},
    "subagent": {"task": "do it", "context": "none"},
    "swarm": {"task": "do it", "agents": [{"name": "solver", "system_prompt": "Solve it."}]},
}


@pytest.mark.long
@pytest.mark.parametrize("name", TOOL_CALLS)
def test_an_agent_with_a_vended_tool_resumes(tmp_path: Path, name: str) -> None:
    vended_tool = vended("vended_tools", name)
    arguments = {
        key: value.format(folder=tmp_path) if isinstance(value, str) else value
        for key, value in TOOL_CALLS[name].items()
    }
    again, _ = watch(
        tmp_path / "sessions.db",
        built_with(lambda: {"tools": [vended_tool]}),
        lambda agent: say(agent, "go on", [call(name, "t1", **arguments)], "done", "and done"),
    )
    assert "done" in tool_result(again, "t1") or "created" in tool_result(again, "t1")


@pytest.mark.long
def test_notebooks_are_read_after_a_restart(tmp_path: Path) -> None:
    notebook = vended("vended_tools", "notebook")
    again, _ = watch(
        tmp_path / "sessions.db",
        built_with(lambda: {"tools": [notebook]}),
        lambda agent: say(agent, "note", [call("notebook", "t1", mode="create", name="plan", new_str="buy milk")]),
    )
    say(again, "read", [call("notebook", "t2", mode="read", name="plan")])
    assert "buy milk" in tool_result(again, "t2")


def test_a_turn_that_the_model_stops_is_resumed(tmp_path: Path) -> None:
    stop = vended("vended_tools", "stop")
    build = built_with(lambda: {"tools": [stop]})
    calls = [call("stop", "t1", message="bye"), call("lookup", "t2", key="a")]
    again, result = watch(tmp_path / "sessions.db", build, lambda agent: say(agent, "go", calls, "never said"))
    assert result.stop_reason == "cancelled"
    assert say(again, "and on").stop_reason == "end_turn"


# -- people who are asked, and answer after a restart --


def handoff() -> dict[str, Any]:
    return {"tools": [vended("vended_tools", "handoff_to_user")]}


def approval() -> dict[str, Any]:
    return {"interventions": [vended("vended_interventions.hitl", "HumanInTheLoop")(enable_trust=True)]}


ASKING: dict[str, tuple[Arguments, Any, Any, str]] = {
    "a handoff": (handoff, call("handoff_to_user", "t1", message="well?"), "well", "well"),
    "an approval": (approval, call("lookup", "t1", key="a"), "yes", "the value of a"),
    "a refusal": (approval, call("lookup", "t1", key="a"), "no", "CONFIRMATION_FAILED"),
    "a steered tool": (lambda: {"plugins": [steering()]}, call("recite", "t1", lines=1), True, "line 0 of 1"),
}


@pytest.mark.parametrize("name", ASKING)
def test_a_person_answers_after_a_restart(tmp_path: Path, name: str) -> None:
    arguments, asking, response, expected = ASKING[name]
    build = built_with(arguments)
    again, result = watch(tmp_path / "sessions.db", build, lambda agent: say(agent, "go", [asking]))
    assert result.stop_reason == "interrupt"
    assert answer(again, result, response, "thank you").stop_reason == "end_turn"
    assert expected in tool_result(again, "t1")
    assert held(resume(tmp_path / "sessions.db", build)) == held(again)


def test_a_tool_that_a_person_trusts_is_trusted_after_a_restart(tmp_path: Path) -> None:
    def drive(agent: Agent) -> None:
        answer(agent, say(agent, "look", [call("lookup", "t1", key="a")]), "trust", "done")

    again, _ = watch(tmp_path / "sessions.db", built_with(approval), drive)
    assert say(again, "look", [call("lookup", "t2", key="b")], "done").stop_reason == "end_turn"


def test_messages_that_an_intervention_adds_and_changes_are_stored(tmp_path: Path) -> None:
    handler = vended("interventions", "InterventionHandler")
    guide, transform = vended("interventions", "Guide"), vended("interventions", "Transform")

    class Meddles(handler):  # type: ignore[misc]
        name = "meddles"

        def before_model_call(self, event: Any, **kwargs: Any) -> Any:
            return guide(feedback="be brief")

        def after_tool_call(self, event: Any, **kwargs: Any) -> Any:
            return transform(apply=lambda event: event.result["content"].append({"text": "checked"}))

        def after_model_call(self, event: Any, **kwargs: Any) -> Any:
            if event.stop_response and "long" in str(event.stop_response.message):
                return guide(feedback="briefer")
            return transform(apply=lambda event: event.stop_response.message["content"].append({"text": "signed"}))

    build = built_with(lambda: {"interventions": [Meddles()]})
    again, _ = watch(
        tmp_path / "sessions.db",
        build,
        lambda agent: say(agent, "go", "too long", [call("lookup", "t1", key="a")], "brief"),
    )
    for text in ("be brief", "briefer", "checked", "signed"):
        assert text in str(again.messages)


# -- agents in agents --


def parent_of(script: tuple[Any, ...], **options: Any) -> Build:
    """Build an agent whose tool is another agent, which keeps no session."""

    def build(manager: SQLiteSessionManager) -> Agent:
        if not hasattr(Agent, "as_tool"):
            pytest.skip("agents of this Strands are no tools")
        child = Agent(name="child", model=ScriptedModel(*script), tools=TOOLS, callback_handler=None)
        return built_with(lambda: {"tools": [child.as_tool(**options)]})(manager)

    return build


@pytest.mark.parametrize("options", [{}, {"preserve_context": True}, {"delegate": True}], ids=str)
def test_an_agent_whose_tool_is_an_agent_resumes(tmp_path: Path, options: dict[str, Any]) -> None:
    as_tool = getattr(Agent, "as_tool", None)
    if as_tool is None or not all(accepts(as_tool, option) for option in options):
        pytest.skip("agents of this Strands are no such tools")
    again, _ = watch(
        tmp_path / "sessions.db",
        parent_of(("the child's answer",), **options),
        lambda agent: say(agent, "go", [call("child", "t1", input="do it")], "done"),
    )
    assert "the child's answer" in tool_result(again, "t1")


def test_the_question_of_an_agent_in_an_agent_is_answered_after_a_restart(tmp_path: Path) -> None:
    try:
        from strands.agent import _agent_as_tool
    except ImportError:
        pytest.skip("agents of this Strands are no tools")
    if not hasattr(_agent_as_tool._AgentAsTool, "_store_interrupted_turn"):
        pytest.skip("this Strands does not keep the interrupted turn of an agent in an agent")
    again, result = watch(
        tmp_path / "sessions.db",
        parent_of(([call("ask", "c1", question="why?")],)),
        lambda agent: say(agent, "go", [call("child", "t1", input="do it")]),
    )
    assert result.stop_reason == "interrupt"
    resumed = resume(tmp_path / "sessions.db", parent_of(("because it is",)))
    assert held(resumed) == held(again)
    assert answer(resumed, result, "because", "done").stop_reason == "end_turn"
    assert "because it is" in tool_result(resumed, "t1")


def test_an_agent_in_an_agent_has_its_own_place_in_the_session(tmp_path: Path) -> None:
    if not hasattr(Agent, "as_tool"):
        pytest.skip("agents of this Strands are no tools")
    children: list[Agent] = []

    def build(manager: SQLiteSessionManager) -> Agent:
        children.append(
            Agent(agent_id="child", name="child", model=ScriptedModel(), callback_handler=None, session_manager=manager)
        )
        return built_with(lambda: {"tools": [children[-1].as_tool(preserve_context=True)]})(manager)

    with SQLiteSessionManager(SESSION, tmp_path / "sessions.db") as manager:
        parent = build(manager)
        for turn in range(2):
            say(parent, "go", [call("child", f"t{turn}", input="do it")], "done")
    assert held(resume(tmp_path / "sessions.db", build)) == held(parent)
    assert held(children[1]) == held(children[0])
    assert len(children[1].messages) == 4


# -- and beside --


def test_a_checkpointed_turn_continues_in_a_new_agent_at_every_checkpoint(tmp_path: Path) -> None:
    needs("checkpointing")
    build = built_with(lambda: {"checkpointing": True})
    agent, result = watch(
        tmp_path / "sessions.db", build, lambda agent: say(agent, "look", [call("lookup", "t1", key="a")])
    )
    positions = []
    while result.stop_reason == "checkpoint":
        positions.append(result.checkpoint.position)
        agent = resume(tmp_path / "sessions.db", build)
        result = say(agent, {"checkpointResume": {"checkpoint": result.checkpoint.to_dict()}}, "done")
    assert positions == ["after_model", "after_tools"]
    assert [message["role"] for message in agent.messages] == ["user", "assistant", "user", "assistant"]


def test_memories_are_found_after_a_restart(tmp_path: Path) -> None:
    manager = vended("memory", "MemoryManager")
    store = vended("vended_memory_stores.file_memory_store", "FileMemoryStore")
    folder = vended("storage", "LocalFileStorage")(str(tmp_path / "memory"))
    again, _ = watch(
        tmp_path / "sessions.db",
        built_with(
            lambda: {"memory_manager": manager(stores=[store(name="facts", storage=folder)], add_tool_config=True)}
        ),
        lambda agent: say(agent, "remember", [call("add_memory", "t1", entries=["# Colors\nAda likes red"])], "done"),
    )
    say(again, "what color?", [call("search_memory", "t2", query="colors")], "red")
    assert "Ada likes red" in tool_result(again, "t2")


def test_traced_turns_are_stored_as_others_are(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def build(manager: SQLiteSessionManager) -> Agent:
        agent = built_with(lambda: {"trace_attributes": {"session.id": SESSION}})(manager)
        agent.tracer.tracer = provider.get_tracer("test")
        return agent

    watch(tmp_path / "sessions.db", build, lambda agent: say(agent, "look", [call("lookup", "t1", key="a")], "done"))
    assert any(span.name.startswith("invoke_agent") for span in exporter.get_finished_spans())


@tool
def dawdle() -> str:
    """Take some time."""
    time.sleep(0.1)
    return "done"


def test_a_turn_that_another_thread_cancels_is_resumed(tmp_path: Path) -> None:
    if not hasattr(Agent, "cancel"):
        pytest.skip("this Strands cannot cancel a turn")

    def drive(agent: Agent) -> Any:
        threading.Timer(0.03, agent.cancel).start()
        return say(agent, "go", [call("dawdle", "t1"), call("lookup", "t2", key="a")], "never said")

    again, result = watch(tmp_path / "sessions.db", built_with(lambda: {"tools": [dawdle]}), drive)
    assert result.stop_reason == "cancelled"
    assert say(again, "and on").stop_reason == "end_turn"


def test_a_loaded_snapshot_is_stored_at_the_next_event(tmp_path: Path) -> None:
    if not hasattr(Agent, "take_snapshot"):
        pytest.skip("this Strands takes no snapshots")
    build = built_with(dict)

    def drive(agent: Agent) -> None:
        say(agent, "question")
        snapshot = agent.take_snapshot(preset="session")
        say(agent, "to be undone")
        agent.load_snapshot(snapshot)
        resumed = resume(tmp_path / "sessions.db", build)
        assert len(resumed.messages) == 4  # loading is not an event
        say(agent, "another way")

    again, _ = watch(tmp_path / "sessions.db", build, drive)
    assert "to be undone" not in str(again.messages)
