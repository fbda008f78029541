"""The model of the examples: one that needs no network, or a real one where an environment variable asks for it.

`OfflineModel` follows a few fixed rules, but it really answers from the conversation that it is given: it
knows a name if a message of this conversation tells it, and says that it does not know if none does.
"""

import os
import re
from collections.abc import AsyncGenerator, AsyncIterable
from importlib import import_module
from typing import Any

from strands.models import Model
from strands.types.content import Message, Messages

ENVIRONMENT_VARIABLE = "STRANDS_EXAMPLES_MODEL"
PROVIDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bedrock": ("BedrockModel", {}),  # Strands knows which model it takes by default
    "anthropic": ("AnthropicModel", {"model_id": "claude-sonnet-4-6", "max_tokens": 1024}),
    "openai": ("OpenAIModel", {"model_id": "gpt-4o"}),
    "ollama": ("OllamaModel", {"host": None, "model_id": "llama3.1"}),  # at OLLAMA_HOST, or on this machine
}


def example_model() -> Model:
    """Return the offline model, or the one that `STRANDS_EXAMPLES_MODEL` names.

    The variable holds a provider, optionally followed by a colon and a model's id: `openai`, `ollama:qwen3`.
    Credentials are taken from where the provider looks for them, such as `ANTHROPIC_API_KEY`.

    Raises:
        ValueError: If there is no such provider.
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
    """Knows of the user what the user's messages say, as long as they are in the conversation.

    It takes in "my ... is ...", "I like ...", "I'm ..." and "call me ...", and answers "What is my ...?",
    "What do I like?", "Who am I?" and "What did I tell you?".
    """

    def update_config(self, **model_config: Any) -> None:
        """There is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """There is nothing to configure."""
        return {}

    async def structured_output(
        self, output_model: Any, prompt: Any, system_prompt: Any = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Refuse: a few rules cannot fill in a form."""
        raise NotImplementedError("the offline model has no structured output")
        yield {}  # makes this a generator, as the interface wants it

    async def stream(self, messages: Messages, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        """Answer the last message from all of them, in the events of Strands' model interface."""
        answer = _answer([_text(message) for message in messages if message["role"] == "user"] or [""])
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": answer}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


# -- what the user says --

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_CLAUSE_END = re.compile(r"(?:,| and)+ (?=(?:my|i|i'm|call me) )", re.IGNORECASE)
_IS = re.compile(r"\bmy ([\w' -]+?) (is|are) (.+)", re.IGNORECASE)
_NAME = re.compile(r"\b(?i:i'm|i am|call me|my name's) ([A-Z][\w'-]*(?: [A-Z][\w'-]*)*)")  # "I'm hungry" is no name
_LIKE = re.compile(r"\bi (?:really )?(?:like|love|enjoy) (.+)", re.IGNORECASE)

# -- what the user asks --

_QUESTION = re.compile(r".*\?$|(what|who|which|where|when|do|did|tell me|remind me)\b", re.IGNORECASE)
_WIDE_QUESTION = re.compile(r"\b(know|remember|said|say|tell|told)\b")
_SAME = (("favorite", "favourite"), ("color", "colour"), ("love", "like"), ("enjoy", "like"), ("who am i", "my name"))


def _answer(texts: list[str]) -> str:
    """Answer the user's last text from all of them."""
    facts: dict[str, list[str]] = {}  # from what a question would call it, `my name`, to what to answer
    for text in texts:
        told = _learn(text, facts)
    questions = [sentence for sentence in _sentences(texts[-1]) if _QUESTION.match(sentence)]
    if questions:
        return " ".join(_recall(question, facts) for question in questions)
    return f"I will remember that. {' '.join(told)}" if told else "I see. Tell me more, or ask me something."


def _learn(text: str, facts: dict[str, list[str]]) -> list[str]:
    """Add what a text says of the user to the facts, and return it."""
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
    """Answer a question from the facts."""
    question = _plain(question)
    asked = [name for name in facts if re.search(rf"\b{re.escape(name)}\b", question)]
    if not asked and "my " not in question and _WIDE_QUESTION.search(question):
        asked = list(facts)
    known = [sentence for name in asked for sentence in facts[name]]
    return " ".join(known) or "I do not know: nothing in this conversation tells me."


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in _SENTENCE_END.split(text) if sentence.strip()]


def _plain(text: str) -> str:
    """Reduce different ways to say the same to one."""
    text = text.lower()
    for other, one in _SAME:
        text = text.replace(other, one)
    return text


def _text(message: Message) -> str:
    return "\n".join(block["text"] for block in message["content"] if "text" in block).replace("\u2019", "'")
