"""With `synchronous="FULL"`, a power loss undoes nothing that was stored; with `NORMAL`, at most the last calls.

A child process runs agents and records everything it writes and syncs. The power is then cut at every moment of that
recording; `support/power_loss.py` says what a disk can hold afterwards. Each such file must be sound, must equal what
the file held when one of the calls returned, and must let the conversation continue.
"""

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support import legacy_files, power_loss
from ..support.disk_calls import missing
from ..support.numbered_messages import add, begin, live_agent, numbers
from ..support.recorded_life import AGENT, NO_ROWS, Life, State, recorded, rows
from ..support.recording_manager import held

if missing():
    pytest.skip(missing(), allow_module_level=True)

HOWS = (power_loss.NOTHING, power_loss.ALL, power_loss.SOME, power_loss.TORN)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> power_loss.Recording:
    return recorded(tmp_path_factory.mktemp("full"), lambda folder, recording: Life(folder, "FULL", recording).lead())


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> power_loss.Recording:
    return recorded(
        tmp_path_factory.mktemp("normal"), lambda folder, recording: Life(folder, "NORMAL", recording).lead()
    )


@dataclass
class Aftermath:
    """What is left after power losses: each is restored into a folder of its own, and examined once."""

    folder: Path
    recording: power_loss.Recording
    name: str = "sessions.db"
    found: Counter[str] = field(default_factory=Counter)
    _known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states = [State(NO_ROWS, None, ())]
        self.states += [event[1] for event in self.recording.events if event[0] == "mark"]
        self._held = {state.rows: state.held for state in self.states}

    def examine(self, image: power_loss.Image, last: int, in_flight: int) -> str:
        """Return what a power loss did: nothing, `lost` the last calls, or damage.

        Args:
            image: What is there.
            last: The number of the state when the last call returned.
            in_flight: That of the state when the next one would have.
        """
        for copy in self.states[last].copies:
            if copy not in image or self._digest(image, copy) != self._final_digest(copy):
                return f"the copy {copy} is not complete"
        there = self._there({name: content for name, content in image.items() if name.startswith(self.name)})
        if there in (self.states[last].rows, self.states[in_flight].rows):
            return "nothing"
        return "lost" if there in [state.rows for state in self.states[:last]] else f"damaged: {there}"

    def _there(self, image: power_loss.Image) -> str:
        """Return the digest of the file's rows, or what is wrong."""
        key = self._digest(image, *image)
        if key not in self._known:
            folder = self.folder / f"loss {len(self._known)}"
            power_loss.restore(image, folder)
            try:
                self._known[key] = self._look(folder / self.name)
            except (SessionException, sqlite3.Error) as error:
                self._known[key] = repr(error)
        return self._known[key]

    def _look(self, path: Path) -> str:
        with SQLiteSessionRepository(path, synchronous="NORMAL") as repository:
            problems = repository.check()
            found = rows(path)
        if problems:
            return repr(problems)
        with SQLiteSessionManager("session", path, synchronous="NORMAL") as manager:
            agent = live_agent(manager, AGENT)
            expected = self._held.get(found)
            if expected is not None and held(agent) != expected:
                return "the agent is another one"
            agent("after the power loss")
            if manager.list_messages("session", AGENT)[-2].to_message() != agent.messages[-2]:
                return "the agent does not go on"
            problems = manager.check()
        return repr(problems) if problems else found

    @staticmethod
    def _digest(image: power_loss.Image, *names: str) -> str:
        return sha256(b"".join(name.encode() + sha256(image[name] or b"").digest() for name in names)).hexdigest()

    def _final_digest(self, name: str) -> str:
        final = power_loss.Loss(random.Random())
        for event in self.recording.events:
            final.follow(event)
        return self._digest(final.after(power_loss.ALL), name)


def losses(
    recording: power_loss.Recording, seed: int, moments: Callable[[int], Sequence[int]], honest: float = 1.0
) -> Iterator[tuple[int, str, power_loss.Image, int, int]]:
    """Yield power losses: the moment, what survived, the image, the last call that returned, and the one after it.

    Args:
        recording: What was done.
        seed: The seed for what is random.
        moments: Returns the moments to try, given how many there are.
        honest: The chance that the disk syncs what it says it has.
    """
    chance = random.Random(seed)
    disk = power_loss.Loss(chance, honest)
    last, count = 0, sum(event[0] == "mark" for event in recording.events)
    wanted = set(moments(len(recording.events)))
    for moment, event in enumerate(recording.events):
        disk.follow(event)
        last += event[0] == "mark"
        if moment in wanted:
            for how in HOWS:
                yield moment, how, disk.after(how), last, min(last + 1, count)


def outcomes(
    folder: Path,
    recording: power_loss.Recording,
    seed: int,
    moments: Callable[[int], Sequence[int]],
    honest: float = 1.0,
) -> Counter[str]:
    """Count what became of the files when the power was cut off; damage is listed with its moment."""
    aftermath = Aftermath(folder, recording)
    counts: Counter[str] = Counter()
    for moment, how, image, last, in_flight in losses(recording, seed, moments, honest):
        outcome = aftermath.examine(image, last, in_flight)
        counts[outcome if outcome in ("nothing", "lost") else f"event {moment}, {how}: {outcome}"] += 1
    return counts


def some(seed: int, wanted: int) -> Callable[[int], Sequence[int]]:
    """Return a random choice of this many moments."""
    return lambda count: random.Random(seed).sample(range(count), min(wanted, count))


def test_what_was_stored_before_a_power_loss_is_there_and_continues(full: power_loss.Recording, tmp_path: Path) -> None:
    assert outcomes(tmp_path, full, 1, some(1, 6)) == {"nothing": 6 * len(HOWS)}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(3))
def test_what_was_stored_before_a_power_loss_is_there_at_every_moment(
    seed: int, full: power_loss.Recording, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """The power is cut off after each of some 1,150 writes and syncs, and unsynced data survives in four ways."""
    wanted = scaled(len(full.events))
    assert outcomes(tmp_path, full, seed, some(seed, wanted)) == {"nothing": wanted * len(HOWS)}


@pytest.mark.long
def test_without_syncs_a_power_loss_undoes_the_last_calls_and_never_damages(
    normal: power_loss.Recording, tmp_path: Path
) -> None:
    assert outcomes(tmp_path, normal, 1, some(1, 6)).keys() == {"nothing", "lost"}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(3))
def test_without_syncs_no_moment_of_a_power_loss_damages(
    seed: int, normal: power_loss.Recording, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """The same with NORMAL: the file is as after some earlier call, healthy, and conversations continue."""
    assert outcomes(tmp_path, normal, seed, some(seed, scaled(len(normal.events)))).keys() == {"nothing", "lost"}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_without_syncs_no_power_loss_damages_a_file_that_is_created(
    normal: power_loss.Recording, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """Until the file is in WAL mode, only syncs protect it."""
    first_call = next(moment for moment, event in enumerate(normal.events) if event[0] == "mark")
    aftermath = Aftermath(tmp_path, normal)
    for seed in range(scaled(40)):
        for _, _, image, last, in_flight in losses(normal, seed, lambda _: range(first_call)):
            assert aftermath.examine(image, last, in_flight) in ("nothing", "lost")


# -- whether the tests notice --


@pytest.mark.long
@pytest.mark.parametrize("left_out", ["sync", "sync folder"])
def test_these_tests_detect_a_missing_sync(left_out: str, full: power_loss.Recording, tmp_path: Path) -> None:
    events = [event for event in full.events if event[0] != left_out]
    careless = power_loss.Recording(full.folder, events)
    assert outcomes(tmp_path, careless, 1, some(1, 12)).keys() - {"nothing"}


@pytest.mark.long
def test_these_tests_detect_a_disk_that_lies_about_syncs(full: power_loss.Recording, tmp_path: Path) -> None:
    assert outcomes(tmp_path, full, 1, some(1, 12), honest=0.5).keys() - {"nothing"}


# -- other lives --


def test_what_one_user_of_a_file_syncs_is_safe_while_another_does_not_wait(tmp_path: Path) -> None:
    def work(folder: Path, recording: power_loss.Recording) -> None:
        careful, hasty = (
            begin(folder / "sessions.db"),
            SQLiteSessionRepository(folder / "sessions.db", synchronous="NORMAL"),
        )
        for number in range(0, 30, 2):
            add(hasty, number)
            add(careful, number + 1)
            recording.mark(number + 2)
            if number % 6 == 0:
                careful.vacuum()

    recording = recorded(tmp_path, work)
    synced = 0
    disk = power_loss.Loss(random.Random(1))
    for moment, event in enumerate(recording.events):
        disk.follow(event)
        if event[0] == "mark":
            synced = event[1]
            power_loss.restore(disk.after(power_loss.NOTHING), tmp_path / str(moment))
            with SQLiteSessionRepository(tmp_path / str(moment) / "sessions.db") as repository:
                assert numbers(repository) == list(range(synced))
    assert synced == 30


def upgraded_after_losses(folder: Path, journal_mode: str, wanted: float) -> int:
    """Cut off the power at some moments of an upgrade, upgrade what is left, and return how many kinds there were."""
    contents = legacy_files.example()
    (folder / "life").mkdir()
    legacy_files.write(folder / "life" / "sessions.db", contents, journal_mode)
    expected = legacy_files.told(contents)

    def work(place: Path, recording: power_loss.Recording) -> None:
        recording.mark("before")
        with SQLiteSessionRepository(place / "sessions.db"):
            recording.mark("upgraded")

    chance = random.Random(journal_mode)
    disk, begun = power_loss.Loss(chance), False
    seen: set[str] = set()
    for event in recorded(folder, work).events:
        disk.follow(event)
        begun = begun or event == ("mark", "before")
        for how in HOWS if begun and chance.random() < wanted else ():
            image = disk.after(how)
            digest = sha256(repr(sorted(image.items())).encode()).hexdigest()
            if digest in seen:
                continue
            seen.add(digest)
            power_loss.restore(image, folder / digest)
            with SQLiteSessionRepository(folder / digest / "sessions.db", synchronous="NORMAL") as repository:
                assert legacy_files.told(legacy_files.read(repository, contents)) == expected
                assert repository.check() == []
    return len(seen)


@pytest.mark.long
@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])
def test_a_power_loss_in_an_upgrade_leaves_a_file_that_can_be_upgraded(journal_mode: str, tmp_path: Path) -> None:
    assert upgraded_after_losses(tmp_path, journal_mode, 0.05) > 2


@pytest.mark.long
@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])
def test_a_power_loss_at_any_moment_of_an_upgrade_leaves_a_file_that_can_be_upgraded(
    journal_mode: str, tmp_path: Path
) -> None:
    """The power is cut off after every write and sync of an upgrade; what is left is upgraded, and all is there."""
    assert upgraded_after_losses(tmp_path, journal_mode, 1) > 50


def test_a_file_in_a_new_folder_is_there_after_a_power_loss(tmp_path: Path) -> None:
    def work(folder: Path, recording: power_loss.Recording) -> None:
        add(begin(folder / "new" / "newer" / "sessions.db"), 0)

    disk = power_loss.Loss(random.Random(1))
    for event in recorded(tmp_path, work).events:
        disk.follow(event)
    assert "new/newer/sessions.db" in disk.after(power_loss.NOTHING)
