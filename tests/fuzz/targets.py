"""All targets by name."""

from . import arguments, foreign, ids, lines, values
from .target import Target

TARGETS: dict[str, Target] = {
    "ids": ids.TARGET,
    "values": values.TARGET,
    "lines": lines.TARGET,
    "arguments": arguments.TARGET,
    "files": foreign.TARGET,
}
