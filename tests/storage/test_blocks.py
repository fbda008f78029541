"""A save writes only what is new in a value: counted in blocks and bytes, so that no clock decides."""

import zlib
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("strands.storage", reason="this Strands has no storage")

from hypothesis import given, settings
from hypothesis import strategies as st

from strands_sqlite_session_manager import SQLiteStorage
from strands_sqlite_session_manager.blobs import values
from strands_sqlite_session_manager.blobs.blocks import cut
from strands_sqlite_session_manager.database.database import Database

from ..support.storages import conversation, counts, run, snapshot, stored_bytes, wal_size

LATEST = "session/s/scopes/agent/default/snapshots/snapshot_latest.json"


def new_bytes(before: bytes, after: bytes) -> int:
    """Return how many bytes of the blocks of a value are not blocks of another."""
    known = {block.hash for block in cut(before)}
    return sum(len(block.data) for block in cut(after) if block.hash not in known)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=50), st.just(b'{"text": "'), st.integers(1, 9).map(lambda n: b"%d" % n * 3000))
    )
)
def test_the_blocks_of_a_value_are_the_value(parts: list[bytes]) -> None:
    value = b"".join(parts)
    blocks = cut(value)
    assert b"".join(block.data for block in blocks) == value
    assert all(block.data for block in blocks)
    assert blocks == cut(bytes(bytearray(value)))


PARTS = st.lists(
    st.sampled_from([f'{{"text": "{word}"}}'.encode() * 300 for word in ("a", "bb", "ccc", "dd")]), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(PARTS, PARTS, PARTS, st.binary(max_size=100))
def test_knowing_another_value_changes_no_block(
    same: list[bytes], one: list[bytes], other: list[bytes], front: bytes
) -> None:
    value = b"".join([front, *same, *one])
    assert cut(value, cut(b"".join([front[::-1], *same, *other]))) == cut(value)


def test_knowing_a_conversation_changes_no_block() -> None:
    messages = conversation(600)
    values = [snapshot(messages[start:end], end) for start, end in ((0, 590), (0, 600), (4, 600), (0, 592), (300, 600))]
    for before in values:
        for after in values:
            assert cut(after, cut(before)) == cut(after)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 100_000, 3_000_000])
def test_a_value_without_texts_has_few_blocks(size: int) -> None:
    blocks = cut(bytes(size))
    assert len(blocks) <= min(3 + size // 4096, 200)


def test_one_more_message_costs_only_the_front_and_the_end_of_the_conversation() -> None:
    messages = conversation(4002)
    before, after = snapshot(messages[:4000], 1), snapshot(messages, 2)
    assert new_bytes(before, after) < len(after) / 20


def test_messages_that_are_removed_in_front_cost_little() -> None:
    messages = conversation(1002)
    before, after = snapshot(messages[:1000], 1), snapshot(messages[2:], 2)
    assert new_bytes(before, after) < len(after) / 5


def test_a_stash_behind_the_messages_is_shared_as_well() -> None:
    def stash(count: int) -> dict[str, object]:
        entries = {f"{zlib.crc32(str(n).encode()):010}_{n}": {"text": "long " * 100 + str(n)} for n in range(count)}
        return {"location": "inline", "entries": dict(sorted(entries.items()))}

    messages = conversation(1002)
    before = snapshot(messages[:1000], 1, stash=stash(1000))
    after = snapshot(messages, 2, stash=stash(1002))
    assert new_bytes(before, after) < len(after) / 10


def test_a_turn_on_a_long_conversation_writes_a_fraction_of_it(path: Path) -> None:
    messages = conversation(4010)
    with SQLiteStorage(path, synchronous="NORMAL") as storage:
        for turn in range(6):
            value = snapshot(messages[: 4000 + 2 * turn], turn)
            before = wal_size(path)
            run(storage.write(LATEST, value))
            assert turn == 0 or wal_size(path) - before < len(value) / 8
        assert run(storage.read(LATEST)) == value
        assert stored_bytes(path) == len(value)  # nothing of the earlier ones is left


@pytest.mark.long
def test_a_hundred_checkpoints_take_less_than_ten_times_the_last(path: Path) -> None:
    messages = conversation(1000)
    with SQLiteStorage(path, synchronous="NORMAL") as storage:
        for number in range(1, 101):
            value = snapshot(messages[: 10 * number], number)
            run(storage.write(f"session/s/immutable_history/snapshot_{number:032}.json", value))
    assert path.stat().st_size < 10 * len(value)


def test_equal_values_are_stored_once(path: Path) -> None:
    value = snapshot(conversation(200))
    with SQLiteStorage(path) as storage:
        for key in ("one", "two", "three"):
            run(storage.write(key, value))
        assert counts(path) == (3, 3 * len(cut(value)), len(cut(value)))
        assert stored_bytes(path) == len(value)
        run(storage.delete("two"))
        assert run(storage.read("one")) == run(storage.read("three")) == value
        run(storage.delete("one"))
        assert counts(path) == (1, len(cut(value)), len(cut(value)))
        run(storage.delete("three"))
        assert counts(path) == (0, 0, 0)


def test_a_value_that_repeats_itself_needs_its_blocks_once(path: Path) -> None:
    with SQLiteStorage(path) as storage:
        run(storage.write("zeros", bytes(1_000_000)))
        assert stored_bytes(path) < 100_000
        assert run(storage.read("zeros")) == bytes(1_000_000)
        run(storage.write("zeros", bytes(500_000)))
        assert run(storage.read("zeros")) == bytes(500_000)
        run(storage.delete("zeros"))
        assert counts(path) == (0, 0, 0)


def test_replacing_a_value_frees_the_blocks_that_no_other_value_needs(path: Path) -> None:
    messages = conversation(400)
    with SQLiteStorage(path) as storage:
        run(storage.write("checkpoint", snapshot(messages[:200], 1)))
        run(storage.write("latest", snapshot(messages, 2)))
        run(storage.write("latest", snapshot(messages[300:], 3)))
        assert run(storage.read("checkpoint")) == snapshot(messages[:200], 1)
        assert run(storage.read("latest")) == snapshot(messages[300:], 3)
        run(storage.delete("checkpoint"))
        assert stored_bytes(path) == len(snapshot(messages[300:], 3))


def test_a_known_value_is_not_read_again(path: Path) -> None:
    blocks = cut(snapshot(conversation(400)))
    with closing(Database(path)) as database:
        database.transaction(lambda connection: values.write(connection, LATEST, blocks))
        assert database.snapshot(lambda connection: values.read_blocks(connection, LATEST, blocks)) is blocks
        assert database.snapshot(lambda connection: values.read_blocks(connection, LATEST, blocks[1:])) == blocks


def test_knowing_a_value_hides_no_change(path: Path) -> None:
    earlier, later = (snapshot(conversation(400, seed), seed) for seed in (1, 2))
    with SQLiteStorage(path) as one, SQLiteStorage(path) as other:
        run(one.write(LATEST, earlier))
        assert run(other.read(LATEST)) == run(other.read(LATEST)) == earlier
        run(one.write(LATEST, later))
        assert run(other.read(LATEST)) == run(one.read(LATEST)) == later
        run(other.delete(LATEST))
        assert run(one.read(LATEST)) is None
