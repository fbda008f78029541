"""Leaves cases of a test to the long tier; of the rest, the first is quick, or all with the mark `every_case`."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def tier(cases: Iterable[Any], *, quick: Collection[Any]) -> list[Any]:
    """Return the cases for `parametrize`, all but the quick ones marked as `long`.

    Args:
        cases: The cases; a tuple holds the values of several parameters.
        quick: The cases that represent the others.
    """
    cases = list(cases)
    unknown = [case for case in quick if case not in cases]
    assert not unknown, f"these are none of the cases: {unknown}"
    return [case if case in quick else _long(case) for case in cases]


def every(step: int, cases: Iterable[Any]) -> list[Any]:
    """Return the cases for `parametrize`, with all but one of every `step` marked as `long`."""
    cases = list(cases)
    return tier(cases, quick=cases[::step])


def _long(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long)
