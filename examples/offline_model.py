"""The model of the examples: it needs no network, unless an environment variable asks for a real model.

`OfflineModel` follows a few fixed rules, but it really answers from the conversation it is given: it knows your name
only if a message in the conversation says it. It really calls tools, and reports what they returned.
"""

import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterable
from importlib import import_module
from typing import Any

from strands.models import Model
from strands.types.content import Message, Messages
from strands.types.tools import ToolSpec

ENVIRONMENT_VARIABLE = "STRANDS_EXAMPLES_MODEL"
PROVIDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bedrock": ("BedrockModel", {}),  # Strands picks the default model
    "anthropic": ("AnthropicModel", {"model_id": "claude-sonnet-4-6", "max_tokens": 1024}),
    "openai": ("OpenAIModel", {"model_id": "gpt-4o"}),
    "ollama": ("OllamaModel", {"host": None, "model_id": "llama3.1"}),  # at OLLAMA_HOST, or on this machine
}


def example_model() -> Model:
    """Return the offline model, or the one that `STRANDS_EXAMPLES_MODEL` names.

    The variable holds a provider, optionally followed by a colon and the id of a model: `openai`, `ollama:qwen3`.
    Each provider looks for its credentials where it always does, such as in `ANTHROPIC_API_KEY`.

    Raises:
        ValueError: If the provider is unknown.
        ModuleNotFoundError: If the provider's client is not installed.
    """
    provider, _, model_id = os.environ.get(ENVIRONMENT_VARIABLE, "").strip().partition(":")
    if provider in ("", "offline"):
        return OfflineModel()
    if provider not in PROVIDERS:
        raise ValueError(f"{ENVIRONMENT_VARIABLE}=<{provider}> | must be one of offline, {', '.join(PROVIDERS)}")
    class_name, settings = PROVIDERS[provider]
    try:
        model_class = getattr(import_module(f"strands.models.{provider}"), class_name)
    except ModuleNotFoundError as error:
        error.msg += f", which {provider} needs: pip install 'strands-agents[{provider}]'"
        raise
    if model_id:
        settings = {**settings, "model_id": model_id}
    model: Model = model_class(**settings)
    return model


class OfflineModel(Model):
    """A model that knows about the user only what the conversation says.

    - It understands "my ... is ...", "I like ...", "I'm ..." and "call me ...", and answers "What is my ...?",
      "What do I like?", "Who am I?" and "What did I tell you?".
    - It calls every tool if all words of its name are in the request or in the system prompt. As inputs it takes facts
      that the user called by the parameter's name ("my order is A-17"), numbers, quoted text, or names. Two cities make
      two calls. Then it reports what the tools returned.
    - In a Swarm, it hands a request that none of its tools fits to the agent whose description does.
    - It obeys 'begin with "..."' in its system prompt.
    """

    def update_config(self, **model_config: Any) -> None:
        """Ignore it: there is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """Return nothing: there is nothing to configure."""
        return {}

    async def structured_output(
        self, output_model: Any, prompt: Any, system_prompt: Any = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Refuse: the rules cannot fill in a form."""
        raise NotImplementedError("the offline model has no structured output")
        yield {}  # makes this a generator, as the interface requires

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        **kwargs: Any,
    ) -> AsyncIterable[Any]:
        """Answer the last message from the whole conversation, as the events of Strands' model interface."""
        calls = _tool_calls(messages, tool_specs or [], system_prompt or "")
        yield {"messageStart": {"role": "assistant"}}
        for number, (name, tool_input) in enumerate(calls, start=_count_calls(messages) + 1):
            yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": f"call-{number}"}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(tool_input)}}}}
            yield {"contentBlockStop": {}}
        if not calls:
            yield {"contentBlockStart": {"start": {}}}
            for chunk in re.findall(r"\s*\S+", _answer(messages, system_prompt or "")):
                yield {"contentBlockDelta": {"delta": {"text": chunk}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if calls else "end_turn"}}


# -- what the user says --

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_CLAUSE_END = re.compile(r"(?:,| and)+ (?=(?:my|i|i'm|call me) )", re.IGNORECASE)
_IS = re.compile(r"\bmy ([\w' -]+?) (is|are) (.+)", re.IGNORECASE)
_NAME = re.compile(r"\b(?i:i'm|i am|call me|my name's) ([A-Z][\w'-]*(?: [A-Z][\w'-]*)*)")  # "I'm hungry" is not a name
_LIKE = re.compile(r"\bi (?:really )?(?:like|love|enjoy) (.+)", re.IGNORECASE)

# -- what the user asks --

_QUESTION = re.compile(r".*\?$|(what|who|which|where|when|do|did|tell me|remind me)\b", re.IGNORECASE)
_WIDE_QUESTION = re.compile(r"\b(know|remember|said|say|tell|told)\b")
_SAME = (("favourite", "favorite"), ("colour", "color"), ("love", "like"), ("enjoy", "like"), ("who am i", "my name"))


# -- what the system prompt says --

_OPENING = re.compile(r'\bbegin with "([^"]+)"', re.IGNORECASE)

# -- what a Swarm says --

_REQUEST = re.compile(r"^User Request: (.*)", re.MULTILINE)
_COLLEAGUE = re.compile(r"^Agent name: ([^.\n]+)\.(.*)", re.MULTILINE)
_PREVIOUS = re.compile(r"^Previous agents who worked on this: (.*)", re.MULTILINE)
_HANDOFF = "handoff_to_agent"

_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")
_PROPER_NAME = re.compile(r"(?<=[a-z0-9,] )[A-Z][\w-]+")


def _answer(messages: Messages, system_prompt: str) -> str:
    """Report what the tools returned, or answer the user's last text from the whole conversation."""
    opening = _OPENING.search(system_prompt)
    if results := _tool_results(messages):
        return " ".join([opening[1], *results] if opening else results)
    texts = _user_texts(messages)
    if opening:
        return f"{opening[1]} {_last_line(texts[-1])}"
    facts: dict[str, list[str]] = {}  # answers, by what a question would call them, such as `my name`
    for text in texts:
        told = _learn(text, facts)
    questions = [sentence for sentence in _sentences(texts[-1]) if _QUESTION.match(sentence)]
    if questions:
        return " ".join(_recall(question, facts) for question in questions)
    if told:
        return " ".join(["I will remember that.", *told])
    return "I see. Tell me more, or ask me something."


def _tool_calls(messages: Messages, tool_specs: list[ToolSpec], system_prompt: str) -> list[tuple[str, dict[str, Any]]]:
    """Choose the tools that the last message asks for, unless they have just been called."""
    if _tool_results(messages):
        return []
    text = _user_texts(messages)[-1]
    requests = _REQUEST.findall(text) or [text]
    facts: dict[str, list[str]] = {}
    for said in [*_user_texts(messages), *requests]:
        _learn(said, facts)
    known = {name.removeprefix("my "): told[-1].split(" is ", 1)[-1].rstrip(".") for name, told in facts.items()}
    wanted = _words(f"{system_prompt}\n{requests[0]}")
    calls = [
        (spec["name"], tool_input)
        for spec in tool_specs
        if spec["name"] != _HANDOFF and _words(spec["name"]) <= wanted
        for tool_input in _tool_inputs(spec["inputSchema"]["json"], requests[0], known)
    ]
    if calls or all(spec["name"] != _HANDOFF for spec in tool_specs):
        return calls
    previous = "".join(_PREVIOUS.findall(text)).split(" → ")
    for colleague, description in _COLLEAGUE.findall(text):
        topics = sorted(word for word in _words(requests[0]) & _words(description) if len(word) > 4)
        if topics and colleague not in previous:
            message = f"This is about: {', '.join(topics)}."
            return [(_HANDOFF, {"agent_name": colleague, "message": message, "context": known})]
    return []


def _tool_inputs(schema: dict[str, Any], request: str, known: dict[str, str]) -> list[dict[str, Any]]:
    """Find the inputs of a tool in a request, for as many calls as there are values."""
    values: dict[str, list[Any]] = {}
    for name in schema.get("required", []):
        if schema["properties"][name].get("type") in ("integer", "number"):
            values[name] = [json.loads(number) for number in re.findall(r"\b[1-9]\d*(?:\.\d+)?\b", request)]
        elif name == "text":
            values[name] = [_last_line(request)]
        elif name in known:
            values[name] = [known[name]]
        else:
            values[name] = _QUOTED.findall(request) or _PROPER_NAME.findall(request)
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=False)] if values else [{}]


def _learn(text: str, facts: dict[str, list[str]]) -> list[str]:
    """Add what a text says about the user to the facts, and return it."""
    told: list[str] = []
    for sentence in _sentences(text):
        for clause in [] if _QUESTION.match(sentence) else _CLAUSE_END.split(sentence.rstrip(".!;")):
            if found := _IS.search(clause):
                subject, verb, value = found.groups()
                told.append(f"Your {subject} {verb} {value}.")
                facts[_plain(f"my {subject}")] = [told[-1]]
            elif found := _NAME.search(clause):
                told.append(f"Your name is {found[1]}.")
                facts["my name"] = [told[-1]]
            elif found := _LIKE.search(clause):
                told.append(f"You like {found[1]}.")
                facts.setdefault("i like", []).append(told[-1])
    return told


def _recall(question: str, facts: dict[str, list[str]]) -> str:
    """Answer a question from the facts about the user."""
    question = _plain(question)
    asked = [name for name in facts if re.search(rf"\b{re.escape(name)}\b", question)]
    if not asked and "my " not in question and _WIDE_QUESTION.search(question):
        asked = list(facts)
    known = [sentence for name in asked for sentence in facts[name]]
    return " ".join(known) or "I do not know: nothing in this conversation tells me."


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in _SENTENCE_END.split(text) if sentence.strip()]


def _plain(text: str) -> str:
    """Reduce different ways of saying the same thing to one."""
    text = text.lower()
    for other, one in _SAME:
        text = text.replace(other, one)
    return text


def _text(message: Message) -> str:
    return "\n".join(block["text"] for block in message["content"] if "text" in block).replace("\u2019", "'")


def _words(text: str) -> set[str]:
    """Return the words of a text, plurals as singulars."""
    return {word.rstrip("s") for word in re.findall(r"[a-z]+", text.lower())}


def _last_line(text: str) -> str:
    """Return the last line, without the prefix that a Graph puts before an agent's words."""
    return text.rstrip().splitlines()[-1].strip().removeprefix("- Agent: ") if text.strip() else ""


def _user_texts(messages: Messages) -> list[str]:
    return [_text(message) for message in messages if message["role"] == "user"] or [""]


def _tool_results(messages: Messages) -> list[str]:
    """Return the results of the tools that were just called."""
    results = [block["toolResult"] for block in messages[-1]["content"] if "toolResult" in block] if messages else []
    return [" ".join(str(content.get("text", content)) for content in result["content"]) for result in results]


def _count_calls(messages: Messages) -> int:
    return sum("toolUse" in block for message in messages for block in message["content"])
