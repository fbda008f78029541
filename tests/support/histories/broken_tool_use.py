"""Conversations whose tool calls and results do not match, which Strands repairs when it restores them."""

from strands.types.content import Message

from ..recording_manager import written
from .history import call, user


def uses(*tool_use_ids: str) -> Message:
    """Build a message that calls tools."""
    return {"role": "assistant", "content": [call("lookup", tool_use_id, key="a") for tool_use_id in tool_use_ids]}


def results(*tool_use_ids: str) -> Message:
    """Build a message with the results of tools."""
    return {
        "role": "user",
        "content": [
            {"toolResult": {"toolUseId": tool_use_id, "status": "success", "content": [{"text": "found"}]}}
            for tool_use_id in tool_use_ids
        ],
    }


BROKEN: dict[str, list[Message]] = {
    "a call without a result": [user("look"), uses("t1"), user("well?")],
    "a call without a result at the end": [user("look"), uses("t1")],
    "two calls with one result": [user("look"), uses("t1", "t2"), results("t1"), user("well?")],
    "two calls, and one result at the end": [user("look"), uses("t1", "t2"), results("t1")],
    "an empty message instead of a result": [user("look"), uses("t1"), {"role": "user", "content": []}],
    "a result without a call": [user("look"), results("t1"), user("well?")],
    "a result without a call at the start": [results("t1"), user("well?")],
    "a result of another call": [user("look"), uses("t1"), results("t2"), user("well?")],
    "a result and one of another call": [user("look"), uses("t1"), results("t1", "t2"), user("well?")],
    "calls and results in disorder": [results("t1"), uses("t1"), user("look"), uses("t2"), results("t2")],
}


def without_new_tracking_ids(messages: list[Message], known: list[Message]) -> str:
    """Return messages as text, without the tracking ids of those that the repair has made up."""
    ids = [message.get("tracking_id") for message in known]
    return written(
        [{key: value for key, value in message.items() if key != "tracking_id" or value in ids} for message in messages]
    )
