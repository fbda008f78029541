"""Every private name of Strands that the package uses, in one place.

`tests/context/test_strands_private.py` fails if a release of Strands changes one of them.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from strands.hooks import AfterInvocationEvent, HookCallback, HookRegistry, events, registry
from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.types.content import Message
from strands.types.session import SessionAgent

_Manager = TypeVar("_Manager", bound=RepositorySessionManager)

_INTERNAL_STATE: Mapping[str, Callable[[Any], Any]] = {
    "interrupt_state": lambda agent: agent._interrupt_state.to_dict(),
    "model_state": lambda agent: agent._model_state,
}


@dataclass(frozen=True)
class StateVersion:
    """Which version of an agent's state is stored.

    Attributes:
        state: The state, an object that counts its changes.
        number: Its count.
        internal_keys: The keys of `_INTERNAL_STATE` that an agent of this kind has.
    """

    state: Any
    number: int
    internal_keys: tuple[str, ...]

    def in_child(self) -> "StateVersion":
        """Replace the state's lock in a forked child, where no thread releases it; return an unknown version."""
        if hasattr(self.state, "_lock"):
            self.state._lock = threading.RLock()
        return replace(self, number=-1)


class AgentColumns(NamedTuple):
    """What a session keeps of an agent besides its messages.

    Attributes:
        values: The values of the columns of `agents`; without `state` if its current version is already stored.
        version: The version of the state, or None where Strands does not count (before 1.30).
    """

    values: dict[str, Any]
    version: StateVersion | None


def read_columns(agent: Any, stored: StateVersion | None) -> AgentColumns:
    """Return what a session keeps of an agent, like `SessionAgent.from_agent`, but without copying an unchanged state.

    `stored` is the version of the state that is stored, or None if it is unknown.
    """
    state = agent.state
    # Before the state is copied: another thread may change it meanwhile, and then it is stored with the next event.
    number = state._get_version() if hasattr(state, "_get_version") else None
    if stored is not None and stored.state is state and stored.number == number:
        manager = getattr(agent, "conversation_manager", None)
        values = {
            "conversation_manager_state": {} if manager is None else manager.get_state(),
            "internal_state": {key: _INTERNAL_STATE[key](agent) for key in stored.internal_keys},
        }
        return AgentColumns(values, stored)
    session_agent = _to_session_agent(agent)
    internal_state = internal_state_of(session_agent)
    version = None
    if number is not None and _INTERNAL_STATE.keys() >= internal_state.keys():
        version = StateVersion(state, number, tuple(internal_state))
    return AgentColumns(
        {
            "state": session_agent.state,
            "conversation_manager_state": session_agent.conversation_manager_state,
            "internal_state": internal_state,
        },
        version,
    )


def _to_session_agent(agent: Any) -> SessionAgent:
    if _is_early_bidi(agent):
        return SessionAgent.from_bidi_agent(agent)  # type: ignore[attr-defined, no-any-return, unused-ignore]
    return SessionAgent.from_agent(agent)


def restore_internal_state(agent: Any, internal_state: dict[str, Any]) -> None:
    """Restore an agent's interrupts and its model's state."""
    session_agent = SessionAgent(agent.agent_id, {}, {}, internal_state)
    if _is_early_bidi(agent):
        session_agent.initialize_bidi_internal_state(agent)  # type: ignore[attr-defined, unused-ignore]
    else:
        session_agent.initialize_internal_state(agent)


def _is_early_bidi(agent: Any) -> bool:
    """Return whether an agent is a BidiAgent of an older version, which has methods of its own."""
    return hasattr(SessionAgent, "from_bidi_agent") and not hasattr(agent, "conversation_manager")


def internal_state_of(session_agent: SessionAgent) -> dict[str, Any]:
    """Return what a record holds of an agent's interrupts and its model's state."""
    return session_agent._internal_state


def fix_broken_tool_use(manager: RepositorySessionManager, messages: list[Message]) -> list[Message]:
    """Complete tool calls that have no result, as upstream does when it restores an agent."""
    return manager._fix_broken_tool_use(messages)


def as_resumed(messages: list[Message]) -> list[Message]:
    """Do the same without a manager."""
    return fix_broken_tool_use(object.__new__(RepositorySessionManager), messages)


def snapshot_storage(storage: Any) -> Any:
    """Return a storage as `SnapshotSessionManager` uses it: under `session/`, unless it is a view of its own.

    Raises:
        ImportError: If this version of Strands has no snapshots.
    """
    try:
        from strands.session.snapshot_session_manager import _resolve_storage
    except ImportError as error:
        raise ImportError("snapshots need strands-agents 1.51 or newer: pip install 'strands-agents>=1.51'") from error
    return _resolve_storage(storage)


def ephemeral_stash(agent: Any) -> Any:
    """Return the stash of an agent with `context_manager="auto"`; None without one, or if it outlives the process."""
    manager: Any = getattr(agent, "context_manager", None)
    if manager is None or manager.stash is None or manager.stash_is_durable:
        return None
    return manager.stash


def use_storage_of_stash(stash: Any, wrap: Callable[[Any], Any]) -> None:
    """Put a storage in front of the one that a stash uses; its keys are the references."""
    stash._storage = wrap(stash._storage)


def stash_entries(messages: list[Message]) -> dict[str, bytes]:
    """Return what a stash holds once these messages are added; not for a thread with a running event loop."""
    from strands._context_manager.retrieval_tool import _track_retrieval_tool_use_ids
    from strands._context_manager.stash import Stash
    from strands.storage.in_memory_storage import InMemoryStorage

    async def stash_all() -> dict[str, bytes]:
        storage = InMemoryStorage()
        stash = Stash(storage, "session", "agent")
        retrievals: set[str] = set()  # what was retrieved is not stashed again
        for message in messages:
            _track_retrieval_tool_use_ids(message, retrievals)
            await stash.store_message(message, frozenset(retrievals))
        return {key: await stash._storage.read(key) or b"" for key in await stash.list()}

    return asyncio.run(stash_all())


class Hooks:
    """Stands between upstream's `SessionManager.register_hooks` and an agent's hooks.

    Upstream registers synchronous callbacks, which would block an event loop. For each message it registers an append
    and then a sync; our append does both. If hooks have an order, the sync after an invocation runs again after all
    other hooks, so that it sees what they change.
    """

    def __init__(
        self,
        hooks: HookRegistry,
        message_added: HookCallback[Any],
        message_updated: HookCallback[Any],
        agent_changed: HookCallback[Any],
        multi_agent_changed: HookCallback[Any],
    ) -> None:
        self._hooks = hooks
        self._instead = {
            "MessageAddedEvent": message_added,
            "BidiMessageAddedEvent": message_added,
            "AfterInvocationEvent": agent_changed,
            "BidiAfterInvocationEvent": agent_changed,
            "AfterNodeCallEvent": multi_agent_changed,
            "AfterMultiAgentInvocationEvent": multi_agent_changed,
        }
        self._registered: set[Any] = set()
        if hasattr(events, "MessageUpdatedEvent"):  # older versions do not have it
            hooks.add_callback(events.MessageUpdatedEvent, message_updated)

    def add_callback(self, event_type: Any, callback: HookCallback[Any], **kwargs: Any) -> None:
        """Register our asynchronous callback for an event, once; an event that we do not know gets the given one."""
        instead = self._instead.get(event_type.__name__)
        if instead is None:
            self._hooks.add_callback(event_type, callback, **kwargs)
        elif event_type not in self._registered:
            self._registered.add(event_type)
            self._hooks.add_callback(event_type, instead, **kwargs)
            if event_type is AfterInvocationEvent and hasattr(registry, "HookOrder"):
                self._hooks.add_callback(event_type, instead, order=float("inf"))


def manager_without_session(kind: type[_Manager], **attributes: Any) -> _Manager:
    """Return a session manager without a session, for its store alone; its constructor would create one.

    Args:
        kind: The class of the manager.
        attributes: What its methods for sessions, agents and messages rely on.
    """
    manager = kind.__new__(kind)
    vars(manager).update(attributes)
    return manager


def session_path(manager: FileSessionManager | S3SessionManager, session_id: str) -> str:
    """Return the folder of a session, or the prefix of its keys."""
    return manager._get_session_path(session_id)


def agent_path(manager: FileSessionManager, session_id: str, agent_id: str) -> str:
    """Return the folder of an agent."""
    return manager._get_agent_path(session_id, agent_id)


def namespaced_mark() -> object:
    """Return the value of `_namespaced` of a storage whose keys have a prefix already (Strands 1.48 and newer)."""
    from strands.storage import storage

    return storage._NAMESPACED


def ephemeral_mark() -> object:
    """Return the value of `_ephemeral` of a storage that ends with the process; None where Strands has none."""
    from strands.storage import storage

    return getattr(storage, "_EPHEMERAL", None)
