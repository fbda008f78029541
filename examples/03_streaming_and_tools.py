"""Streaming and tools: what is stored while an answer streams, while tools run, and while a person is asked.

Run it with `python examples/03_streaming_and_tools.py`. It works in a temporary folder and needs no network, unless
`STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder).
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from offline_model import example_model
from strands import Agent, ToolContext, tool
from strands.types.interrupt import InterruptResponseContent

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

FORECASTS = {"Lisbon": "24 degrees and sun", "Oslo": "9 degrees and rain"}


@tool
async def weather(city: str) -> str:
    """Tell the weather of today.

    Args:
        city: The name of a city.
    """
    print(f"      weather of {city}: asked")
    await asyncio.sleep(0.2 if city == "Lisbon" else 0.1)  # Lisbon's weather service is slow
    print(f"      weather of {city}: known")
    return f"{city} has {FORECASTS.get(city, 'some weather')}."


@tool(context=True)
def add_to_list(item: str, tool_context: ToolContext) -> str:
    """Add an item to the shopping list.

    Args:
        item: What to buy.
        tool_context: Passed in by Strands; the model does not see it.
    """
    items = [*(tool_context.agent.state.get("shopping") or []), item]
    tool_context.agent.state.set("shopping", items)
    return f"The list: {', '.join(items)}."


@tool(context=True)
def transfer(amount: int, to: str, tool_context: ToolContext) -> str:
    """Transfer money, after a person has agreed.

    Args:
        amount: How much, in euros.
        to: Who gets it.
        tool_context: Passed in by Strands; the model does not see it.
    """
    if tool_context.interrupt("approval", reason=f"Transfer {amount} euros to {to}?") != "yes":
        return "Nothing was transferred."
    print(f"      process {os.getpid()} transfers the money")
    return f"{amount} euros went to {to}."


def streaming(db_path: Path) -> None:
    """Streaming: the question is stored before the answer begins, the answer as soon as it is whole."""
    asyncio.run(listen(db_path))


async def listen(db_path: Path) -> None:
    """Show an answer as it comes in, and how many messages are stored meanwhile."""
    with SQLiteSessionManager("chat", db_path) as session_manager:
        agent = new_agent(session_manager)
        stored = []
        print("   you:   Hello, my name is Ada.\n   agent: ", end="")
        async for event in agent.stream_async("Hello, my name is Ada."):
            if "data" in event:
                print(event["data"], end="|", flush=True)
                stored.append(len(session_manager.list_messages("chat", agent.agent_id)))
        after = len(session_manager.list_messages("chat", agent.agent_id))
        print(f"\n   {len(stored)} chunks; stored at the first one: {stored[0]} message, after the last one: {after}")
        assert (stored[0], after) == (1, 2)


def tools(db_path: Path) -> None:
    """Tools: a call and its result are messages of the conversation, and stored like all others."""
    with SQLiteSessionManager("tools", db_path) as session_manager:
        say(new_agent(session_manager), "What is the weather in Lisbon?")
    show_blocks(db_path, "tools")


def parallel_tools(db_path: Path) -> None:
    """Parallel tools: calls that run at the same time are one message, their results the next one."""
    with SQLiteSessionManager("parallel", db_path) as session_manager:
        say(new_agent(session_manager), "What is the weather in Lisbon and in Oslo?")
    show_blocks(db_path, "parallel")


def a_tool_with_state(db_path: Path) -> None:
    """A tool with state: what it keeps in agent.state is stored with its result, and there after a restart."""
    with SQLiteSessionManager("shopping", db_path) as session_manager:
        say(new_agent(session_manager), 'Add "oat milk" to the list.')
    in_a_new_process("shop", db_path)
    with SQLiteSessionRepository(db_path) as repository:
        agent = repository.read_agent("shopping", "default")
        assert agent is not None
        print(f"   stored: {agent.state}")
        assert len(agent.state["shopping"]) == 2


def shop(db_path: Path) -> None:
    """Do what `a_tool_with_state` starts this program again for."""
    with SQLiteSessionManager("shopping", db_path) as session_manager:
        agent = new_agent(session_manager)
        print(f"   process {os.getpid()} finds {agent.state.get('shopping')}")
        say(agent, 'Add "bread" to the list.')


def a_person_is_asked(db_path: Path) -> None:
    """An interrupt: a tool waits for a person, who may take days, and answers to another process."""
    with SQLiteSessionManager("payment", db_path) as session_manager:
        result = new_agent(session_manager)("Transfer 250 euros to Grace.")
        assert result.stop_reason == "interrupt"
        (interrupt,) = result.interrupts or []
        # Metadata tell whoever shows it to a person, without an agent, what is waiting.
        question = {"waiting": "yes", "interrupt_id": interrupt.id, "question": str(interrupt.reason)}
        session_manager.update_session_metadata("payment", question)
    print(f"   process {os.getpid()} stops with: {result.stop_reason}")
    in_a_new_process("answer", db_path)
    show_blocks(db_path, "payment")


def answer(db_path: Path) -> None:
    """Do what `a_person_is_asked` starts this program again for."""
    with SQLiteSessionRepository(db_path) as repository:
        (waiting,) = repository.list_sessions(metadata={"waiting": "yes"})
    print(f"   process {os.getpid()} finds: {waiting.metadata['question']} The person says yes.")
    with SQLiteSessionManager(waiting.session_id, db_path) as session_manager:
        agent = new_agent(session_manager)
        responses: list[InterruptResponseContent] = [
            {"interruptResponse": {"interruptId": waiting.metadata["interrupt_id"], "response": "yes"}}
        ]
        print(f"   agent: {str(agent(responses)).strip()}")
        done = {"waiting": None, "interrupt_id": None, "question": None}  # None removes a key
        session_manager.update_session_metadata(waiting.session_id, done)


def new_agent(session_manager: SQLiteSessionManager) -> Agent:
    """Build an agent, which resumes if its session has been used before."""
    return Agent(
        model=example_model(),
        tools=[weather, add_to_list, transfer],
        session_manager=session_manager,
        callback_handler=None,
    )


def say(agent: Agent, text: str) -> None:
    """Say something to the agent, and print both sides."""
    print(f"   you:   {text}")
    print(f"   agent: {str(agent(text)).strip()}")


def show_blocks(db_path: Path, session_id: str) -> None:
    """Print what is stored of a conversation."""
    with SQLiteSessionRepository(db_path) as repository:
        for stored in repository.list_messages(session_id, "default"):
            message = stored.to_message()
            for block in message["content"]:
                if "toolUse" in block:
                    said = f"calls {block['toolUse']['name']} with {block['toolUse']['input']}"
                elif "toolResult" in block:
                    said = f"{block['toolResult']['status']}: {block['toolResult']['content'][0]['text']}"
                else:
                    said = block["text"].strip()
                print(f"   {stored.message_id} | {message['role']} | {said}")


def in_a_new_process(task: str, db_path: Path) -> None:
    """Run another function of this program as if the first process were long gone."""
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, task, str(db_path)], check=True)


def main() -> None:
    """Run the sections one after the other, on one file."""
    sections = (streaming, tools, parallel_tools, a_tool_with_state, a_person_is_asked)
    with tempfile.TemporaryDirectory() as folder:
        for number, section in enumerate(sections, start=1):
            print(f"\n{number}. {section.__doc__}")
            section(Path(folder, "sessions.db"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"shop": shop, "answer": answer}[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
