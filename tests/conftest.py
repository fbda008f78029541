"""Options and fixtures for all tests."""

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import boto3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--scale",
        type=float,
        default=1.0,
        help="the part of their rounds that long tests run; below 0.1, only every fourth case of each",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: some tests wait for a disk, a lock, or another process."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)  # before the tests are selected by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave all cases of a test but the first to the long tier, unless it is marked `every_case`.

    With a small `--scale`, every fourth case of a test in the long tier is run.
    """
    step = 4 if config.getoption("--scale") < 0.1 else 1
    quick = set()
    long: Counter[str] = Counter()
    left_out = []
    for item in items:
        name = item.nodeid.partition("[")[0]
        if not item.get_closest_marker("long"):
            if name not in quick or item.get_closest_marker("every_case"):
                quick.add(name)
                continue
            item.add_marker(pytest.mark.long)
        if long[name] % step:
            left_out.append(item)
        long[name] += 1
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        left = set(left_out)
        items[:] = [item for item in items if item not in left]


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what is there before any test: it takes a while to look at."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def scaled(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How many of so many rounds to run, at least one: all, or the part that `--scale` gives."""
    scale: float = request.config.getoption("--scale")
    return lambda rounds: max(1, round(rounds * scale))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database file can be; the folder is there, the file is not."""
    return tmp_path / "sessions.db"


@pytest.fixture(scope="module")
def boto_session() -> "Iterator[boto3.Session]":
    """A session of an AWS that exists in this process only; sharing it makes clients five times faster to build."""
    import boto3
    from moto import mock_aws

    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            environment.delenv(name, raising=False)
        with mock_aws():
            yield boto3.Session()


@pytest.fixture(scope="module")
def s3_bucket(boto_session: "boto3.Session") -> str:
    """The name of a bucket there; whoever needs it empty takes a prefix of its own."""
    boto_session.client("s3").create_bucket(Bucket="sessions")
    return "sessions"
