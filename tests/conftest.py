"""Options and fixtures for all tests."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scale", type=float, default=1.0, help="the part of their rounds that long tests are to run")


@pytest.hookimpl(tryfirst=True)  # before the tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all but one in so many cases of a test as `long`, where the test says so."""
    seen: Counter[str] = Counter()
    for item in items:
        sampled = item.get_closest_marker("one_in")
        if sampled:
            test = item.nodeid.partition("[")[0]
            if seen[test] % sampled.args[0]:
                item.add_marker(pytest.mark.long)
            seen[test] += 1


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
def boto_session() -> Iterator[boto3.Session]:
    """A session of an AWS that exists in this process only; sharing it makes clients five times faster to build."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            environment.delenv(name, raising=False)
        with mock_aws():
            yield boto3.Session()


@pytest.fixture(scope="module")
def s3_bucket(boto_session: boto3.Session) -> str:
    """The name of a bucket there; whoever needs it empty takes a prefix of its own."""
    boto_session.client("s3").create_bucket(Bucket="sessions")
    return "sessions"
