"""What Strands may expect of any `Storage`, tried on Strands' storages and on ours.

To test another one, add it to `STORAGES` in `support/storages.py`, and what it cannot do to `CANNOT`.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

pytest.importorskip("strands.storage", reason="this Strands has no storage")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strands.storage import InMemoryStorage, Storage
from strands.types.exceptions import StorageError

from ..support.storages import CANNOT, STORAGES, namespace, run

searches = pytest.mark.skipif(not hasattr(InMemoryStorage, "search"), reason="this Strands does not search")

EVERY_BYTE = bytes(range(256))
REFUSED_KEYS = ("", "/", "//", "a\\b", "..", "../a", "a/../b", "a/..", "/../a")
NAMES = [
    "ada/1.json",
    "ada/2.json",
    "Ada/1.json",
    "adam/1.json",
    "ad%/1.json",
    "ad_/1.json",
    "a*/1.json",
    "a?/1.json",
    "[a]/1.json",
    "ada-2/1.json",
    "zoë/1.json",
    "日本/1.json",
    "😀/1.json",
    "\U0010ffff/1.json",
]


@pytest.fixture(params=STORAGES)
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, s3_bucket: str, boto_session: boto3.Session
) -> Iterator[Any]:
    """Every storage; a test of something that it cannot do is expected to fail."""
    reason = CANNOT[request.param].get(request.function.__name__)
    if reason:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    with STORAGES[request.param](tmp_path, s3_bucket, boto_session) as opened:
        yield opened


async def fill(storage: Any, *keys: str) -> None:
    for key in keys:
        await storage.write(key, key.encode())


def test_it_is_a_storage(storage: Any) -> None:
    assert isinstance(storage, Storage)


@pytest.mark.parametrize("value", [b"", b"a", EVERY_BYTE, b"\xff\xfe\x00", EVERY_BYTE * 1000])
def test_a_value_comes_back_as_it_was_written(storage: Any, value: bytes) -> None:
    run(storage.write("a/b.json", value))
    read = run(storage.read("a/b.json"))
    assert type(read) is bytes
    assert read == value


def test_a_value_replaces_the_one_before(storage: Any) -> None:
    async def write_and_read() -> list[Any]:
        read = []
        for value in (b"one" * 5000, b"two", b"", b"four" * 5000, b"one" * 5000):
            await storage.write("key", value)
            read.append(await storage.read("key") == value)
        return [*read, await storage.list("")]

    assert run(write_and_read()) == [True] * 5 + [["key"]]


def test_a_missing_key_reads_as_none_and_can_be_deleted(storage: Any) -> None:
    async def work() -> None:
        assert await storage.read("nothing") is None
        await storage.delete("nothing")
        await storage.write("key", b"value")
        await storage.delete("key")
        assert await storage.read("key") is None
        assert await storage.list("") == []

    run(work())


@pytest.mark.parametrize("spelled", ["/a/b", "a/b/", "a//b", "//a///b//"])
def test_redundant_slashes_are_dropped(storage: Any, spelled: str) -> None:
    async def work() -> None:
        await storage.write(spelled, b"value")
        assert await storage.read("a/b") == b"value"
        assert await storage.list("") == ["a/b"]
        assert await storage.list("/a//b") == ["a/b"]
        await storage.delete(spelled)
        assert await storage.read("a/b") is None

    run(work())


@pytest.mark.parametrize("key", REFUSED_KEYS)
def test_an_invalid_key_is_refused(storage: Any, key: str) -> None:
    for call in (storage.write(key, b""), storage.read(key), storage.delete(key)):
        with pytest.raises(StorageError):
            run(call)


@pytest.mark.parametrize("prefix", ["..", "../a", "a/../b"])
def test_an_invalid_prefix_is_refused(storage: Any, prefix: str) -> None:
    with pytest.raises(StorageError):
        run(storage.list(prefix))


@pytest.mark.parametrize(
    "prefix", ["", "a", "ad", "ada", "ada/", "Ada", "ad%", "ad_", "a*", "a?", "[a]", "zo", "日", "b"]
)
def test_a_list_has_the_keys_with_the_prefix_and_no_others_in_order(storage: Any, prefix: str) -> None:
    run(fill(storage, *NAMES))
    assert run(storage.list(prefix)) == sorted(name for name in NAMES if name.startswith(prefix))


@pytest.mark.parametrize("prefix", ["\U0010ffff", "\U0010ffff/", "😀", "\ud7ff", "\ue000"])
def test_a_prefix_at_the_end_of_unicode_is_a_prefix(storage: Any, prefix: str) -> None:
    run(fill(storage, *NAMES))
    assert run(storage.list(prefix)) == [name for name in NAMES if name.startswith(prefix)]


def test_deleting_a_key_leaves_those_that_look_like_it(storage: Any) -> None:
    async def work() -> None:
        await fill(storage, *NAMES)
        await storage.delete("ad_/1.json")
        assert await storage.list("") == sorted(set(NAMES) - {"ad_/1.json"})

    run(work())


def test_a_key_can_be_the_beginning_of_another(storage: Any) -> None:
    async def work() -> None:
        await fill(storage, "a", "a/b")
        assert await storage.list("a") == ["a", "a/b"]
        assert await storage.list("a/") == ["a/b"]

    run(work())


def test_a_single_dot_is_a_part_like_any_other(storage: Any) -> None:
    async def work() -> None:
        await fill(storage, "a/b", "a/./b")
        assert await storage.list("") == ["a/./b", "a/b"]

    run(work())


def test_a_key_can_be_long(storage: Any) -> None:
    key = "part/" + "x" * 2000
    run(fill(storage, key))
    assert run(storage.list("part")) == [key]


def test_a_key_can_hold_control_characters(storage: Any) -> None:
    async def work() -> None:
        await fill(storage, "a\x00b", "a\x00c", "a\x01\n", "a")
        assert await storage.read("a\x00b") == b"a\x00b"
        assert await storage.list("a\x00") == ["a\x00b", "a\x00c"]
        assert await storage.list("") == ["a", "a\x00b", "a\x00c", "a\x01\n"]
        await storage.delete("a\x00b")
        assert await storage.list("") == ["a", "a\x00c", "a\x01\n"]

    run(work())


def test_no_name_is_reserved(storage: Any) -> None:
    run(fill(storage, ".__strands_notes"))
    assert run(storage.list("")) == [".__strands_notes"]


def test_many_calls_at_once_do_what_each_would_do_alone(storage: Any) -> None:
    async def work() -> None:
        await asyncio.gather(*(storage.write(f"many/{number:03}", b"%d" % number) for number in range(100)))
        assert await storage.list("many/") == [f"many/{number:03}" for number in range(100)]
        read = await asyncio.gather(*(storage.read(f"many/{number:03}") for number in range(100)))
        assert read == [b"%d" % number for number in range(100)]
        await asyncio.gather(*(storage.delete(f"many/{number:03}") for number in range(100)))
        assert await storage.list("") == []

    run(work())


def test_it_is_used_from_any_thread_and_event_loop(storage: Any) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(3):
                run(storage.write(f"thread {number}", b"%d" % turn))
                assert run(storage.read(f"thread {number}")) == b"%d" % turn
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert run(storage.list("thread")) == [f"thread {number}" for number in range(4)]


# -- namespaces --


def test_a_namespace_has_its_own_keys_only(storage: Any) -> None:
    async def work() -> None:
        view = namespace(storage, "/users//ada/")
        await fill(storage, "users/adam/notes", "users/Ada/notes")
        await view.write("notes", b"ada's")
        assert await view.list("") == await view.list("n") == ["notes"]
        assert await view.read("notes") == await storage.read("users/ada/notes") == b"ada's"
        inner = namespace(view, "inner")
        await inner.write("notes", b"inner")
        assert await view.list("") == ["inner/notes", "notes"]
        await view.delete("notes")
        assert await storage.list("users") == ["users/Ada/notes", "users/ada/inner/notes", "users/adam/notes"]

    run(work())


def test_a_namespace_says_that_it_is_one(storage: Any) -> None:
    from strands.storage import storage as upstream

    view = namespace(storage, "users")
    assert view._namespaced is upstream._NAMESPACED
    assert isinstance(view, Storage)


@pytest.mark.parametrize("prefix", ["..", "a/../b", "a\\b"])
def test_a_namespace_cannot_reach_other_keys(storage: Any, prefix: str) -> None:
    with pytest.raises(StorageError):
        namespace(storage, prefix)


# -- search --

NOTES = {
    "harbor.md": b"The harbor of Lisbon: boats, wind, and the sea.",
    "sea/wind.txt": b"Wind at sea. WIND, wind!",
    "sea/lisbon.md": b"nothing else",
    "bread.md": b"Flour and water; the the the",
    "binary": b"\xff\xfe wind \x00",
    "empty.md": b"",
    "japanese.md": "日本 の 風".encode(),
}
QUESTIONS = [
    "wind",
    "Where is the WIND in Lisbon?",
    "lisbon harbor sea",
    "the",
    "",
    "md",
    "風",
    "sea/lisbon",
    "x' OR 1=1",
]


async def found(storage: Any, question: str) -> list[tuple[Any, ...]]:
    return [(result.key, result.score, result.data) for result in await storage.search(question)]


@searches
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_search_ranks_as_strands_does(storage: Any, question: str) -> None:
    async def work() -> None:
        reference, view = InMemoryStorage(), namespace(storage, "notes")
        for key, value in NOTES.items():
            await reference.write(key, value)
            await view.write(key, value)
            await storage.write(f"elsewhere/{key}", value + b" notes wind")
        assert await found(view, question) == await found(reference, question)

    run(work())


# -- any sequence of calls --

PARTS = st.sampled_from(["a", "A", "b", "ab", "%", "_", "é", "日", "😀", "a b", "\U0010ffff"])
# The last part has an ending, so that no key is the beginning of another, which files cannot hold.
KEYS = st.builds(
    lambda parts, slash: slash.join(parts) + ".x", st.lists(PARTS, min_size=1, max_size=3), st.sampled_from(["/", "//"])
)
PREFIXES = st.one_of(KEYS, st.builds("/".join, st.lists(PARTS, max_size=2)), st.builds(lambda part: f"/{part}/", PARTS))
VALUES = st.one_of(st.binary(max_size=20), st.integers(0, 3).map(lambda n: bytes([n]) * 20000))
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), KEYS, VALUES),
        st.tuples(st.just("read"), KEYS),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("list"), PREFIXES),
    ),
    max_size=25,
)
_numbers = iter(range(10**9))


def expected(there: dict[str, bytes], name: str, argument: str, value: bytes = b"") -> Any:
    """Do the same to a dict."""
    spelled = argument.replace("//", "/").lstrip("/")
    if name == "write":
        there[spelled] = value
    elif name == "delete":
        there.pop(spelled, None)
    elif name == "read":
        return there.get(spelled)
    else:
        return sorted(key for key in there if key.startswith(spelled))
    return None


async def compare(storage: Any, calls: list[tuple[Any, ...]]) -> None:
    there: dict[str, bytes] = {}
    for name, *arguments in calls:
        assert await getattr(storage, name)(*arguments) == expected(there, name, *arguments), (name, arguments)


def try_any_calls(storage: Any, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(CALLS)
    def answers_as_a_dict(calls: list[tuple[Any, ...]]) -> None:
        run(compare(namespace(storage, f"run {next(_numbers)}"), calls))

    answers_as_a_dict()


def test_any_calls_are_answered_as_by_a_dict(storage: Any) -> None:
    try_any_calls(storage, 8)


@pytest.mark.long
def test_many_more_calls_are_answered_as_by_a_dict(storage: Any, scaled: Callable[[int], int]) -> None:
    try_any_calls(storage, scaled(1000))
