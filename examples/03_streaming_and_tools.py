"""Streaming and tools: what is stored while an answer streams, while tools run, and while a tool waits for a person.

Run it with `python examples/03_streaming_and_tools.py`. It works in a temporary folder and needs no network, unless
`STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder).
"""

import asyncio
import tempfile
from pathlib import Path

from offline_model import example_model
from strands import Agent, ToolContext, tool
from strands.types.interrupt import InterruptResponseContent

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository


@tool
async def weather(city: str) -> str:
    """Tell today's weather.

    Args:
        city: The name of a city.
    """
    forecasts = {"Lisbon": "24 degrees and sun", "Oslo": "9 degrees and rain"}
    return f"{city} has {forecasts.get(city, 'some weather')}."


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
    return f"{amount} euros went to {to}."


def streaming(db_path: Path) -> None:
    """Streaming: the question is stored before the answer begins, the answer as soon as it is complete."""

    async def listen() -> None:
        with SQLiteSessionManager("chat", db_path) as session_manager:
            agent = new_agent(session_manager)
            async for event in agent.stream_async("Hello, my name is Ada."):
                if "data" in event:
                    stored = len(session_manager.list_messages("chat", agent.agent_id))
                    print(f"   {event['data']!r}, and {stored} message stored")
            print(f"   complete, and {len(session_manager.list_messages('chat', agent.agent_id))} messages stored")

    asyncio.run(listen())


def parallel_tools(db_path: Path) -> None:
    """Tools: calls that run at the same time are one message, and their results are the next one."""
    with SQLiteSessionManager("tools", db_path) as session_manager:
        new_agent(session_manager)("What is the weather in Lisbon and in Oslo?")
    show_blocks(db_path, "tools")


def a_tool_with_state(db_path: Path) -> None:
    """A tool with state: what it keeps in agent.state is stored with its result, and a new agent has it."""
    with SQLiteSessionManager("shopping", db_path) as session_manager:
        new_agent(session_manager)('Add "oat milk" to the list.')
    with SQLiteSessionManager("shopping", db_path) as session_manager:
        agent = new_agent(session_manager)
        print(f"   a new agent begins with {agent.state.get('shopping')}")
        answer = agent('Add "bread" to the list.')
        print(f"   agent: {str(answer).strip()}")


def a_person_is_asked(db_path: Path) -> None:
    """An interrupt: a tool waits for a person, who may answer days later and to another process."""
    with SQLiteSessionManager("payment", db_path) as session_manager:
        result = new_agent(session_manager)("Transfer 250 euros to Grace.")
        (interrupt,) = result.interrupts or []
        # Metadata lets another program find what is waiting, without an agent.
        question = {"waiting": "yes", "interrupt_id": interrupt.id, "question": str(interrupt.reason)}
        session_manager.update_session_metadata("payment", question)

    with SQLiteSessionRepository(db_path) as repository:
        (waiting,) = repository.list_sessions(metadata={"waiting": "yes"})
    print(f"   {waiting.metadata['question']} The person says yes.")

    with SQLiteSessionManager(waiting.session_id, db_path) as session_manager:
        responses: list[InterruptResponseContent] = [
            {"interruptResponse": {"interruptId": waiting.metadata["interrupt_id"], "response": "yes"}}
        ]
        new_agent(session_manager)(responses)
        done = {"waiting": None, "interrupt_id": None, "question": None}  # None removes a key
        session_manager.update_session_metadata(waiting.session_id, done)
    show_blocks(db_path, "payment")


def new_agent(session_manager: SQLiteSessionManager) -> Agent:
    """Build an agent. It resumes if its session has been used before."""
    return Agent(
        model=example_model(),
        tools=[weather, add_to_list, transfer],
        session_manager=session_manager,
        callback_handler=None,
    )


def show_blocks(db_path: Path, session_id: str) -> None:
    """Print the stored messages of a session, block by block."""
    with SQLiteSessionRepository(db_path) as repository:
        for stored in repository.list_messages(session_id, "default"):
            message = stored.to_message()
            for block in message["content"]:
                if "toolUse" in block:
                    text = f"calls {block['toolUse']['name']} with {block['toolUse']['input']}"
                elif "toolResult" in block:
                    text = f"{block['toolResult']['status']}: {block['toolResult']['content'][0]['text']}"
                else:
                    text = block["text"].strip()
                print(f"   {stored.message_id} | {message['role']} | {text}")


def main() -> None:
    """Run the sections one after the other, on one file."""
    with tempfile.TemporaryDirectory() as folder:
        for number, section in enumerate((streaming, parallel_tools, a_tool_with_state, a_person_is_asked), start=1):
            print(f"\n{number}. {section.__doc__}")
            section(Path(folder, "sessions.db"))


if __name__ == "__main__":
    main()
