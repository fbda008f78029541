"""Copies that fail: what is refused, what is left behind, and what the error says."""

import json
import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SessionExistsException, SessionNotFoundException, copy_session
from strands_sqlite_session_manager.transfer.stores import S3SessionRepository

from ..support.records import agent, dump, message, session
from ..support.stores import (
    AGENT_IDS,
    BUCKET,
    IDS,
    KINDS,
    MemoryRepository,
    Store,
    described,
    file_store,
    files_in,
    memory_store,
    new_store,
    s3_server,
    sqlite_store,
    write_everything,
)
from ..support.tiers import tier

READS = [
    ("read_session", 1),
    *((method, call) for method in ("read_agent", "list_messages", "read_multi_agent") for call in (1, 2)),
]
WRITES = ("create_session", "create_agent", "create_message", "create_multi_agent")


PAIRS = tier(product(KINDS, repeat=2), quick=[("sqlite", "sqlite"), ("files", "s3"), ("memory", "files")])


@pytest.fixture(scope="module", autouse=True)
def s3_url() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_server() as url:
        yield url


@pytest.fixture
def source(tmp_path: Path) -> Store:
    """Files that hold a session with everything, `home`."""
    store = file_store(tmp_path / "source")
    write_everything(store.whole(), "home")
    return store


@pytest.fixture
def target(tmp_path: Path) -> Store:
    """A SQLite file that holds another session."""
    store = sqlite_store(tmp_path / "target.db")
    write_everything(store.whole(), "other")
    return store


# -- refused --


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_a_session_that_the_target_has_is_refused_and_stays_as_it_is(
    source_kind: str, target_kind: str, tmp_path: Path
) -> None:
    source, target = new_store(source_kind, tmp_path, "source"), new_store(target_kind, tmp_path, "target")
    write_everything(source.whole(), "home")
    target.whole().create_session(session("home"))
    target.whole().create_agent("home", agent("somebody"))
    before = target.content("home")
    with pytest.raises(SessionExistsException, match=r"^Session home already exists"):
        copy_session(source.whole(), target.whole(), "home", **source.ids(**IDS))
    assert target.content("home") == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_is_not_copied_onto_itself(kind: str, tmp_path: Path) -> None:
    store = new_store(kind, tmp_path, "store")
    write_everything(store.whole(), "home")
    before = store.content("home")
    with pytest.raises(SessionExistsException, match=r"^Session home already exists"):
        copy_session(store.whole(), store.whole(), "home", **store.ids(**IDS))
    assert store.content("home") == before


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_a_missing_session_is_refused_by_name(source_kind: str, target_kind: str, tmp_path: Path) -> None:
    source, target = new_store(source_kind, tmp_path, "source"), new_store(target_kind, tmp_path, "target")
    write_everything(source.whole(), "home")
    with pytest.raises(SessionNotFoundException, match=r"^Session nowhere does not exist$"):
        copy_session(source.whole(), target.whole(), "nowhere", **source.ids(**IDS))
    assert target.whole().read_session("nowhere") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ({"agent_ids": ["ada", "eve"], "multi_agent_ids": []}, "^Agent eve in session home does not exist$"),
        (
            {"agent_ids": [], "multi_agent_ids": ["graph", "tree"]},
            "^MultiAgent state tree in session home does not exist$",
        ),
    ],
    ids=["agent", "orchestrator"],
)
def test_a_missing_agent_or_orchestrator_is_refused_by_name(
    kind: str, ids: dict[str, Any], told: str, target: Store, tmp_path: Path
) -> None:
    source = new_store(kind, tmp_path, "another source")
    write_everything(source.whole(), "home")
    with pytest.raises(SessionNotFoundException, match=told):
        copy_session(source.whole(), target.whole(), "home", **ids)
    assert target.whole().read_session("home") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad_id", ["", " ", "../home", "a/b"])
@pytest.mark.parametrize("which", ["session_id", "new_session_id"])
def test_an_id_that_no_store_can_hold_is_refused(
    which: str, bad_id: str, kind: str, source: Store, tmp_path: Path
) -> None:
    ids: dict[str, str] = {"session_id": "home", which: bad_id}
    with pytest.raises(ValueError, match=r"session_id=.* \| id cannot"):
        copy_session(source.whole(), new_store(kind, tmp_path, "target").whole(), **ids)


# -- a source that fails --


class Failing(MemoryRepository):
    """A store that fails at one of the calls to one of its methods."""

    def fail_at(self, method: str, call: int) -> None:
        """Let this method fail when it is called so many times."""
        original, self.calls = getattr(self, method), 0

        def failing(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == call:
                raise ConnectionError("the cable is broken\nand this line says too much")
            return original(*args, **kwargs)

        setattr(self, method, failing)


@pytest.mark.parametrize(("method", "call"), READS)
def test_a_source_that_fails_leaves_nothing_in_sqlite(method: str, call: int, target: Store, tmp_path: Path) -> None:
    source = Failing()
    write_everything(source, "home")
    source.fail_at(method, call)
    before = dump(tmp_path / "target.db")
    with pytest.raises((SessionException, ConnectionError), match="the cable is broken"):
        copy_session(source, target.whole(), "home", **IDS)
    assert dump(tmp_path / "target.db") == before


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "is empty": lambda content: b"",
    "is cut off": lambda content: content[: len(content) // 2],
    "is no JSON": lambda content: b"hello",
    "is not UTF-8": lambda content: content.replace(b"20", b"\xff\xfe", 1),
    "is null": lambda content: b"null",
    "is a list": lambda content: b"[1]",
    "is an empty object": lambda content: b"{}",
    "is nested too deep": lambda content: b"[" * 100_000,
}
FILES = {
    "session": "session.json",
    "agent": "agents/agent_ada/agent.json",
    "message": "agents/agent_ada/messages/message_2.json",
    "orchestrator": "multi_agents/multi_agent_graph/multi_agent.json",
}


DAMAGES = [
    ("files", what, how)
    for what in FILES
    for how in MALFORMED
    if what != "orchestrator"
    or how not in ("is null", "is a list", "is an empty object")  # its state is its own affair
] + [("s3", what, how) for what in ("agent", "message") for how in ("is cut off", "is not UTF-8", "is a list")]


@pytest.mark.parametrize(("kind", "what", "how"), DAMAGES)
def test_a_malformed_file_is_named_and_leaves_nothing_in_sqlite(
    kind: str, what: str, how: str, target: Store, tmp_path: Path
) -> None:
    store = new_store(kind, tmp_path, "source")
    write_everything(store.whole(), "home")
    damage(store, tmp_path, FILES[what], MALFORMED[how])
    before = dump(tmp_path / "target.db")
    with pytest.raises(SessionException) as refusal:
        copy_session(store.whole(), target.whole(), "home")
    assert dump(tmp_path / "target.db") == before
    assert "home" in str(refusal.value)
    if kind == "files" and what != "orchestrator":
        assert os.path.basename(FILES[what]) in str(refusal.value)


def damage(store: Store, folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file or an object of the session `home`."""
    if store.kind == "files":
        path = folder / "source" / "session_home" / name
        path.write_bytes(change(path.read_bytes()))
    else:
        key = f"{folder.name}/source/session_home/{name}"
        client = store.whole().client
        content = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        client.put_object(Bucket=BUCKET, Key=key, Body=change(content))


@pytest.mark.parametrize("name", ["message_latest.json", "message_.json", "message_1 (copy).json"])
def test_an_error_names_a_file_that_is_not_a_message(name: str, source: Store, target: Store, tmp_path: Path) -> None:
    stray = tmp_path / "source" / "session_home" / "agents" / "agent_ada" / "messages" / name
    stray.write_text("{}")
    with pytest.raises(SessionException, match=name.replace("(", r"\(").replace(")", r"\)")):
        copy_session(source.whole(), target.whole(), "home")
    assert target.whole().read_session("home") is None


def test_files_that_a_killed_writer_left_half_written_are_ignored(source: Store, target: Store, tmp_path: Path) -> None:
    messages = tmp_path / "source" / "session_home" / "agents" / "agent_ada" / "messages"
    for name in (".strands_x1.tmp", "message_11.json.tmp"):
        (messages / name).write_text('{"mess')
    (messages.parent.parent / "agent_half").mkdir()
    copy_session(source.whole(), target.whole(), "home")
    assert described(target.whole(), "home") == described(source.whole(), "home")


@pytest.mark.skipif(os.name == "nt", reason="Windows lets only some users make links")
@pytest.mark.parametrize("what", FILES)
def test_a_link_is_not_followed_where_strands_does_not(what: str, source: Store, target: Store, tmp_path: Path) -> None:
    path = tmp_path / "source" / "session_home" / FILES[what]
    elsewhere = tmp_path / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    try:
        FileSessionManager("another", storage_dir=str(tmp_path / "source"))._read_file(str(path))
        pytest.skip("this Strands follows links")
    except SessionException:
        pass
    with pytest.raises(SessionException, match="link"):
        copy_session(source.whole(), target.whole(), "home")
    assert target.whole().read_session("home") is None


@pytest.mark.parametrize(
    "unstorable",
    [
        {"role": "user", "content": [{"text": ("a", "tuple")}]},
        {"role": "user", "content": [{1: "a number as a key"}]},
        {"role": "user", "content": [object()]},
    ],
    ids=["tuple", "key", "object"],
)
def test_a_message_that_sqlite_cannot_hold_leaves_nothing_in_it(unstorable: Any, target: Store, tmp_path: Path) -> None:
    source = memory_store().whole()
    write_everything(source, "home")
    source.create_message("home", "ada", SessionMessage(unstorable, 11))
    before = dump(tmp_path / "target.db")
    with pytest.raises(SessionException, match=r"message\['content'\]\[0\]"):
        copy_session(source, target.whole(), "home", **IDS)
    assert dump(tmp_path / "target.db") == before


def test_a_message_that_occurs_twice_is_refused(target: Store) -> None:
    source = memory_store().whole()
    write_everything(source, "home")
    source.messages["home", "ada"][99] = message(0)
    with pytest.raises(SessionException, match=r"ada .*twice"):
        copy_session(source, target.whole(), "home", **IDS)
    assert target.whole().read_session("home") is None


# -- a target that fails --


def test_an_error_about_a_failing_target_says_exactly_what_it_holds(source: Store) -> None:
    calls = {"create_session": 1, "create_agent": 2, "create_message": 8, "create_multi_agent": 2}
    assert calls.keys() == set(WRITES)
    for method, times in calls.items():
        for call in range(1, times + 1):
            target = Failing()
            target.fail_at(method, call)
            with pytest.raises(SessionException) as failure:
                copy_session(source.whole(), target, "home")
            said, written = str(failure.value).split(". Written so far: ")
            assert said == "Session home was not copied: the cable is broken", (method, call)
            assert isinstance(failure.value.__cause__, ConnectionError)
            assert written == inventory(target), (method, call)


def inventory(target: MemoryRepository) -> str:
    """What a copy should say that it has written, judging by what the target holds."""
    totals = dict(zip(AGENT_IDS, (5, 3), strict=True))
    parts = ["the session itself"] * len(target.sessions)
    for (_, agent_id), messages in target.messages.items():
        parts.append(f"agent {agent_id} with {len(messages) or 'none'} of its {totals[agent_id]} messages")
    parts.extend(f"orchestrator {multi_agent_id}" for _, multi_agent_id in target.multi_agents)
    return "; ".join(parts) or "nothing"


@pytest.mark.parametrize("kind", ["files", "s3"])
def test_an_error_about_what_a_store_cannot_hold_says_what_was_written_before(kind: str, tmp_path: Path) -> None:
    source, target = sqlite_store(tmp_path / "source.db"), new_store(kind, tmp_path, "target")
    write_everything(source.whole(), "home", surrogates=True)
    with pytest.raises(SessionException, match="surrogates") as failure:
        copy_session(source.whole(), target.whole(), "home")
    assert "the session itself; agent ada with 4 of its 5 messages" in str(failure.value)
    there = {name for name in target.content("home") if "messages/message_" in name and name.endswith(".json")}
    assert len(there) == 4


def test_an_unwritable_folder_is_named(source: Store, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("a file where the folder should be")
    with pytest.raises(SessionException, match=r"home was not copied: .*Written so far: nothing"):
        copy_session(source.whole(), file_store(tmp_path / "target").whole(), "home")


def test_a_missing_bucket_is_named(source: Store, tmp_path: Path) -> None:
    nowhere = S3SessionRepository("no-such-bucket", "p")
    with pytest.raises(SessionException, match=r"no-such-bucket|NoSuchBucket|bucket does not exist"):
        copy_session(source.whole(), nowhere, "home")
    with pytest.raises(SessionException, match="no-such-bucket"):
        nowhere.list_session_ids()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    nowhere = file_store(tmp_path / "nowhere").whole()
    with pytest.raises(SessionException, match="nowhere"):
        nowhere.list_session_ids()
    with pytest.raises(SessionNotFoundException, match="Session home does not exist"):
        copy_session(nowhere, sqlite_store(tmp_path / "a.db").whole(), "home")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("raising_at", [1, 3])
def test_a_progress_callback_that_raises_ends_the_copy_as_any_failure_does(
    raising_at: int, source: Store, target: Store, tmp_path: Path
) -> None:
    elsewhere = file_store(tmp_path / "elsewhere")

    def progress(done: int, total: int) -> None:
        if done == raising_at:
            raise ConnectionError("nobody listens")

    with pytest.raises(SessionException, match=f"agent ada with {raising_at} of its 5 messages$"):
        copy_session(source.whole(), elsewhere.whole(), "home", progress=progress)
    names = files_in(tmp_path / "elsewhere")
    assert sum("message_" in name for name in names) == raising_at
    assert json.loads(names[os.path.join("session_home", "session.json")])["session_id"] == "home"
