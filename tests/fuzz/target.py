"""A fuzzing target: a property of every input, tested with random ones or driven by a fuzzer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@dataclass(frozen=True)
class Target:
    """A kind of input, and what must be true of each.

    Attributes:
        inputs: All of them.
        check: Fails where the property does not hold.
        examples: How many to try where there is little time.
    """

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    examples: int = 4

    def test(self, examples: int | None = None) -> Any:
        """Return the hypothesis test, whose `hypothesis.fuzz_one_input` takes bytes.

        Without a number of examples, it tries a few, which are the same every time.
        """
        chosen = settings(
            max_examples=self.examples if examples is None else examples,
            derandomize=examples is None,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        return chosen(given(self.inputs)(_with_one_argument(self.check)))


def _with_one_argument(check: Callable[[Any], None]) -> Callable[[Any], None]:
    def test(value: Any) -> None:
        check(value)

    return test
