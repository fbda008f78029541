"""Every name of Strands' that is not public, in one place.

`tests/test_strands_internals.py` fails when a release of Strands changes one of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from strands.hooks import AfterInvocationEvent, HookCallback, HookRegistry, MessageAddedEvent, events, registry
from strands.types.session import SessionAgent

_INTERNAL_STATE: Mapping[str, Callable[[Any], Any]] = {
    "interrupt_state": lambda agent: agent._interrupt_state.to_dict(),
    "model_state": lambda agent: agent._model_state,
}


class AgentReader:
    """Reads of an agent what a session keeps beside its messages, as `SessionAgent.from_agent` does.

    It is asked at every message, and `from_agent` copies the agent's whole state. Where Strands counts the
    versions of a state (from 1.30 on), an unchanged one is left out.
    """

    def __init__(self) -> None:
        self._internal_keys: list[str] = []
        self._state: Any = None
        self._version: int | None = None  # of the state; None is not known

    def read(self, agent: Any) -> dict[str, Any]:
        """Return the values of the columns of `agents` that may have changed since the last call."""
        state = agent.state
        if self._version is None or state is not self._state or state._get_version() != self._version:
            return self._read_all(agent)
        manager = getattr(agent, "conversation_manager", None)
        return {
            "conversation_manager_state": {} if manager is None else manager.get_state(),
            "internal_state": {key: _INTERNAL_STATE[key](agent) for key in self._internal_keys},
        }

    def _read_all(self, agent: Any) -> dict[str, Any]:
        session_agent = to_session_agent(agent)
        self._internal_keys = list(session_agent._internal_state)
        if hasattr(agent.state, "_get_version") and _INTERNAL_STATE.keys() >= set(self._internal_keys):
            self._state, self._version = agent.state, agent.state._get_version()
        return {
            "state": session_agent.state,
            "conversation_manager_state": session_agent.conversation_manager_state,
            "internal_state": session_agent._internal_state,
        }

    def forget(self) -> None:
        """Read everything the next time: what was read last could not be stored."""
        self._version = None


def to_session_agent(agent: Any) -> SessionAgent:
    """Describe an agent of any kind; in older versions, a BidiAgent has a way of its own."""
    if _is_early_bidi(agent):
        return SessionAgent.from_bidi_agent(agent)  # type: ignore[attr-defined, no-any-return, unused-ignore]
    return SessionAgent.from_agent(agent)


def restore_internal_state(session_agent: SessionAgent, agent: Any) -> None:
    """Put an agent's interrupts and its model's state back."""
    if _is_early_bidi(agent):
        session_agent.initialize_bidi_internal_state(agent)  # type: ignore[attr-defined, unused-ignore]
    else:
        session_agent.initialize_internal_state(agent)


def _is_early_bidi(agent: Any) -> bool:
    return hasattr(SessionAgent, "from_bidi_agent") and not hasattr(agent, "conversation_manager")


class Hooks:
    """Stands between upstream's `SessionManager.register_hooks` and an agent's hooks.

    Upstream registers, for every message, an append and a sync behind it. Our append does what that sync
    would, so only the first is passed on. The sync after an invocation comes again behind all other hooks,
    where hooks have an order, so that it sees what they change.
    """

    def __init__(self, hooks: HookRegistry) -> None:
        self._hooks = hooks
        self._appends = False

    def add_callback(self, event_type: Any, callback: HookCallback[Any], **kwargs: Any) -> None:
        """Register a callback, unless it is the sync behind an append."""
        if event_type is MessageAddedEvent:
            if self._appends:
                return
            self._appends = True
        self._hooks.add_callback(event_type, callback, **kwargs)
        if event_type is AfterInvocationEvent and hasattr(registry, "HookOrder"):
            self._hooks.add_callback(event_type, callback, order=float("inf"))

    def add_message_updated_callback(self, callback: HookCallback[Any]) -> None:
        """Register for the replacement of a message by the framework, which older versions do not tell."""
        if hasattr(events, "MessageUpdatedEvent"):
            self._hooks.add_callback(events.MessageUpdatedEvent, callback)
