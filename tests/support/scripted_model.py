"""A model that says what a test tells it to, in the events of Strands' model interface."""

import json
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Any

from strands.models import Model
from strands.types.exceptions import ContextWindowOverflowException

Reply = str | dict[str, Any] | Exception | Callable[[list[dict[str, Any]]], Any]


def tool_use(name: str, tool_use_id: str, **arguments: Any) -> dict[str, Any]:
    """A content block that calls a tool."""
    return {"toolUse": {"toolUseId": tool_use_id, "name": name, "input": arguments}}


class ScriptedModel(Model):
    """Answers with one reply of its script after the other, and with `reply N` when the script is over.

    A reply is text; a list of content blocks; an exception to raise; a dict of a raw stream, such as a
    guardrail's `redactContent`; or a function of the messages that returns one of these.
    """

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.calls = 0

    def update_config(self, **model_config: Any) -> None:
        """There is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """There is nothing to configure."""
        return {}

    async def structured_output(
        self, output_model: Any, prompt: Any, system_prompt: Any = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Fill the output model with what the script says."""
        yield {"output": output_model(**self._next([]))}

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        """Stream the next reply."""
        reply = self._next(messages)
        if isinstance(reply, Exception):
            raise reply
        yield {"messageStart": {"role": "assistant"}}
        stop_reason = "end_turn"
        if isinstance(reply, dict):
            yield reply
            reply = "blocked"
            stop_reason = "guardrail_intervened"
        for block in [{"text": reply}] if isinstance(reply, str) else reply:
            if "toolUse" in block:
                stop_reason = "tool_use"
                use = block["toolUse"]
                start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
                yield {"contentBlockStart": {"start": start}}
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(use["input"])}}}}
            else:
                yield {"contentBlockStart": {"start": {}}}
                yield {"contentBlockDelta": {"delta": block}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": stop_reason}}
        yield {
            "metadata": {
                "usage": {"inputTokens": 10 + self.calls, "outputTokens": 5, "totalTokens": 15 + self.calls},
                "metrics": {"latencyMs": 7},
            }
        }

    def _next(self, messages: list[dict[str, Any]]) -> Any:
        self.calls += 1
        reply = self.replies.pop(0) if self.replies else f"reply {self.calls}"
        return reply(messages) if callable(reply) else reply


OVERFLOW = ContextWindowOverflowException("too long")
REDACT_INPUT = {"redactContent": {"redactUserContentMessage": "[redacted]"}}
