"""A session is copied whole between any two stores, and comes back byte for byte."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.types.session import Session, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, copy_session
from strands_sqlite_session_manager.transfer.stores import FileSessionRepository, S3SessionRepository

from ..support.conversations import IMAGE, build
from ..support.orchestrators import KINDS as TEAMS
from ..support.orchestrators import build_team
from ..support.scripted_model import REDACT_INPUT, tool_use
from ..support.stores import (
    AGENT_IDS,
    BUCKET,
    IDS,
    KINDS,
    MESSAGES,
    MULTI_AGENT_IDS,
    MemoryRepository,
    described,
    file_store,
    memory_store,
    new_store,
    rows_of,
    s3_server,
    sqlite_store,
    write_everything,
)
from ..support.tiers import tier

PAIRS = tier(
    product(KINDS, repeat=2), quick=[("files", "sqlite"), ("sqlite", "s3"), ("s3", "files"), ("memory", "sqlite")]
)


@pytest.fixture(scope="module", autouse=True)
def s3_url() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_server() as url:
        yield url


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_a_session_is_copied_whole_from_any_store_to_any_other(
    source_kind: str, target_kind: str, tmp_path: Path
) -> None:
    source, target = new_store(source_kind, tmp_path, "source"), new_store(target_kind, tmp_path, "target")
    write_everything(source.whole(), "home")
    copy_session(source.whole(), target.whole(), "home", **source.ids(**IDS))
    assert described(target.whole(), "home") == described(source.whole(), "home")


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_went_to_sqlite_comes_back_byte_for_byte(kind: str, tmp_path: Path) -> None:
    first, last = new_store(kind, tmp_path, "first"), new_store(kind, tmp_path, "last")
    sqlite = sqlite_store(tmp_path / "a.db")
    write_everything(first.whole(), "home")
    before = first.content("home")
    copy_session(first.whole(), sqlite.whole(), "home", **first.ids(**IDS))
    copy_session(sqlite.whole(), last.whole(), "home")
    assert last.content("home") == before
    assert first.content("home") == before


@pytest.mark.long
@pytest.mark.parametrize("kind", ["files", "s3"])
def test_what_real_agents_and_teams_left_comes_back_byte_for_byte(kind: str, tmp_path: Path) -> None:
    first, last = new_store(kind, tmp_path, "first"), new_store(kind, tmp_path, "last")
    sqlite = sqlite_store(tmp_path / "a.db")
    agent = build(first.open("home"), [tool_use("shout", "t1", text="hi")], "HI", REDACT_INPUT, agent_id="ada")
    agent.state.set("city", {"name": "Köln"})
    agent("shout hi")
    agent([{"text": "look"}, IMAGE])
    for team in TEAMS:
        build_team(team, first.open("home"), tmp_path, team_id=team)("the task")
    copy_session(first.whole(), sqlite.whole(), "home")
    copy_session(sqlite.whole(), last.whole(), "home")
    content = last.content("home")
    assert content == first.content("home")
    assert {name.split("/")[0] for name in content} == {"session.json", "agents", "multi_agents"}
    assert sum("messages/message_" in name for name in content) == 6


@pytest.mark.parametrize("within", [True, False], ids=["within one file", "to another file"])
def test_between_sqlite_files_every_row_is_the_same_but_for_its_revision(within: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    other = path if within else tmp_path / "b.db"
    with SQLiteSessionManager("home", path, metadata={"user_id": "42", "empty": ""}) as manager:
        agent = build(manager, [tool_use("shout", "t1", text="hi")], "HI", "reply", REDACT_INPUT)
        agent("shout hi")
        agent.messages[0]["content"][0]["text"] = "edited in place"
        del agent.messages[1:3]
        agent("and on")
        agent("a secret")
        build_team("graph", manager, tmp_path)("the task")
    before = rows_of(path, "home")
    with SQLiteSessionRepository(path) as source, SQLiteSessionRepository(other) as target:
        copy_session(source, target, "home", new_session_id="copy")
        assert rows_of(other, "copy") == before == rows_of(path, "home")
        assert any(row["edited_message"] for row in before["messages"])
        assert before["session_metadata"] == [{"key": "user_id", "value": "42"}, {"key": "empty", "value": ""}]
        (active,) = [found.updated_at for found in source.list_sessions() if found.session_id == "home"]
        assert [found.updated_at for found in target.list_sessions() if found.session_id == "copy"] == [active]
        assert "copy" in {found.session_id for found in target.list_sessions(metadata={"user_id": "42"})}
        assert "copy" in {
            match.session_id for match in target.search_messages("edited") or target.search_messages("HI")
        }
        assert target.check() == []


def test_a_copy_within_a_file_and_its_original_continue_independently(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path / "a.db")
    original = build(store.open("home"))
    original("hello")
    copy_session(store.whole(), store.whole(), "home", new_session_id="copy")
    before = store.content("home")
    copied = build(store.open("copy"))
    copied("in another direction")
    assert store.content("home") == before
    original("straight on")
    assert "straight on" not in str(store.content("copy"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_has_the_new_id_and_the_original_keeps_its_own(kind: str, tmp_path: Path) -> None:
    source, target = file_store(tmp_path / "source"), new_store(kind, tmp_path, "target")
    write_everything(source.whole(), "home")
    copy_session(source.whole(), target.whole(), "home", new_session_id="ελλάς 2")
    assert target.whole().read_session("home") is None
    copied = target.whole().read_session("ελλάς 2")
    assert copied.session_id == "ελλάς 2"
    assert described(target.whole(), "ελλάς 2") == described(source.whole(), "home")
    assert source.whole().read_session("home").session_id == "home"


# -- either end may be a manager --


def as_manager(kind: str, folder: Path, name: str) -> Any:
    """A manager of another session in the same store as `new_store`'s."""
    if kind == "files":
        return FileSessionManager("another", storage_dir=str(folder / name))
    if kind == "s3":
        return S3SessionManager("another", BUCKET, prefix=f"{folder.name}/{name}")
    return SQLiteSessionManager("another", folder / f"{name}.db")


@pytest.mark.parametrize(
    ("source_kind", "target_kind"),
    tier(product(["sqlite", "files", "s3"], repeat=2), quick=[("s3", "sqlite"), ("sqlite", "files")]),
)
def test_a_manager_stands_for_its_whole_store_at_either_end(source_kind: str, target_kind: str, tmp_path: Path) -> None:
    source, target = new_store(source_kind, tmp_path, "source"), new_store(target_kind, tmp_path, "target")
    write_everything(source.whole(), "home")
    copy_session(as_manager(source_kind, tmp_path, "source"), as_manager(target_kind, tmp_path, "target"), "home")
    assert described(target.whole(), "home") == described(source.whole(), "home")


def test_a_bucket_is_found_by_its_endpoint_url(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")  # nobody is there
    source, sqlite = file_store(tmp_path / "source"), sqlite_store(tmp_path / "a.db")
    write_everything(source.whole(), "home")
    bucket = S3SessionRepository(BUCKET, f"{tmp_path.name}/p", region_name="eu-central-1", endpoint_url=s3_url)
    copy_session(source.whole(), bucket, "home")
    copy_session(bucket, sqlite.whole(), "home")
    assert described(sqlite.whole(), "home") == described(source.whole(), "home")


class SealedFiles(FileSessionManager):
    """Files that only its own methods can read, as if they were encrypted."""

    def _write_file(self, path: str, data: dict[str, Any]) -> None:
        super()._write_file(path, {"sealed": data})

    def _read_file(self, path: str) -> dict[str, Any]:
        data: dict[str, Any] = super()._read_file(path)["sealed"]
        return data


def test_a_manager_with_its_own_format_is_read_by_its_own_methods(tmp_path: Path) -> None:
    sealed, target = SealedFiles("another", storage_dir=str(tmp_path / "sealed")), sqlite_store(tmp_path / "a.db")
    write_everything(sealed, "home")
    copy_session(sealed, target.whole(), "home", **IDS)
    assert described(target.whole(), "home") == described(sealed, "home")


# -- enumerating --


@pytest.mark.parametrize("kind", ["files", "s3"])
def test_listing_a_store_creates_no_session(kind: str, tmp_path: Path) -> None:
    store = new_store(kind, tmp_path, "store")
    for session_id in ("a", "session_x", "ü 🦜"):
        write_everything(store.whole(), session_id)
    whole = store.whole()
    assert sorted(whole.list_session_ids()) == sorted(["a", "session_x", "ü 🦜"])
    assert sorted(whole.list_agent_ids("a")) == sorted(AGENT_IDS)
    assert sorted(whole.list_multi_agent_ids("a")) == sorted(MULTI_AGENT_IDS)
    assert whole.list_agent_ids("nobody") == whole.list_multi_agent_ids("nobody") == []


@pytest.mark.long
def test_more_sessions_and_messages_than_a_page_of_s3_holds_are_found(tmp_path: Path) -> None:
    small_pages = new_store("s3", tmp_path, "store").whole()
    client = small_pages.client
    client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: params.setdefault("MaxKeys", 2) and None
    )
    for session_id in "ab":
        small_pages.create_session(Session(session_id, SessionType.AGENT))
    write_everything(small_pages, "c")
    assert sorted(small_pages.list_session_ids()) == list("abc")
    target = sqlite_store(tmp_path / "a.db").whole()
    copy_session(small_pages, target, "c")
    assert described(target, "c") == described(small_pages, "c")


def test_a_store_that_cannot_list_needs_the_ids(tmp_path: Path) -> None:
    source, target = memory_store(), sqlite_store(tmp_path / "a.db")
    write_everything(source.whole(), "home")
    for given, missing in (({}, "agent_ids"), ({"agent_ids": AGENT_IDS}, "multi_agent_ids")):
        with pytest.raises(ValueError, match=f"^{missing} .*MemoryRepository"):
            copy_session(source.whole(), target.whole(), "home", **given)
    assert target.whole().list_sessions() == []


def test_only_the_agents_and_orchestrators_that_are_named_are_copied(tmp_path: Path) -> None:
    source = file_store(tmp_path / "source")
    write_everything(source.whole(), "home")
    target = sqlite_store(tmp_path / "a.db").whole()
    copy_session(source.whole(), target, "home", agent_ids=["ada"], multi_agent_ids=[])
    assert [agent.agent_id for agent in target.list_agents("home")] == ["ada"]
    assert target.list_multi_agents("home") == []


# -- progress --


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_progress_tells_how_many_messages_of_how_many(source_kind: str, target_kind: str, tmp_path: Path) -> None:
    source, target = new_store(source_kind, tmp_path, "source"), new_store(target_kind, tmp_path, "target")
    write_everything(source.whole(), "home")
    told: list[tuple[int, int]] = []
    copy_session(
        source.whole(),
        target.whole(),
        "home",
        progress=lambda done, total: told.append((done, total)),
        **source.ids(**IDS),
    )
    assert told, "nothing was told"
    assert told[-1] == (MESSAGES, MESSAGES)
    assert told == sorted(set(told))
    assert {total for _, total in told} == {MESSAGES}


# -- the source stays as it is --


class SharesItsRecords(MemoryRepository):
    """Returns the very records that it holds, with times as some databases have them."""

    def read_session(self, session_id: str, **kwargs: Any) -> Any:
        return self.sessions.get(session_id)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> Any:
        return self.agents.get((session_id, agent_id))

    def list_messages(self, session_id: str, agent_id: str, *args: Any, **kwargs: Any) -> Any:
        return list(self.messages[session_id, agent_id].values())


def test_times_that_are_not_text_become_text_in_utc_and_only_in_the_copy(tmp_path: Path) -> None:
    source, target = SharesItsRecords(), sqlite_store(tmp_path / "a.db").whole()
    write_everything(source, "home")
    naive, cologne = datetime(2024, 5, 6, 7, 8, 9), datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    source.sessions["home"].created_at = naive  # type: ignore[assignment]
    source.agents["home", "ada"].created_at = cologne  # type: ignore[assignment]
    source.messages["home", "ada"][0].created_at = naive  # type: ignore[assignment]
    before = source.content("home")
    copy_session(source, target, "home", **IDS)
    assert target.read_session("home").created_at == "2024-05-06T07:08:09+00:00"
    assert target.read_agent("home", "ada").created_at == "2024-05-06T05:08:09+00:00"
    assert target.read_message("home", "ada", 0).created_at == "2024-05-06T07:08:09+00:00"
    assert source.content("home") == before


def test_a_folder_of_files_is_only_read(tmp_path: Path) -> None:
    source = file_store(tmp_path / "source")
    write_everything(source.whole(), "home")
    paths = sorted(tmp_path.joinpath("source").rglob("*"))
    before = [(path, path.stat().st_mtime_ns) for path in paths]
    copy_session(FileSessionRepository(tmp_path / "source"), sqlite_store(tmp_path / "a.db").whole(), "home")
    assert [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.joinpath("source").rglob("*"))] == before
