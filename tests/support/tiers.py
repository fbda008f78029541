"""Which cases of a large matrix the quick tests run, and which are left to the long ones."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def tier(cases: Iterable[Any], *, quick: Container[Any]) -> list[Any]:
    """Return the cases as parameters, all but the quick ones marked as `long`."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.long) for case in cases]
