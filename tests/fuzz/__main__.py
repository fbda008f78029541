"""Drive a target by coverage: `python -m tests.fuzz TARGET [options of libFuzzer]`.

The fuzzer is atheris (`pip install atheris`), which is available for Linux. For ten minutes, keeping interesting inputs
in a folder:

    python -m tests.fuzz lines -max_total_time=600 -timeout=60 corpus/
"""

import sys
from typing import Any

NAMES = ("ids", "values", "lines", "arguments", "files")


def main(arguments: list[str]) -> None:
    """Fuzz until something is found, or the options say that it is enough."""
    if len(arguments) < 2 or arguments[1] not in NAMES:
        sys.exit(f"usage: python -m tests.fuzz TARGET [OPTION...]\ntargets: {', '.join(NAMES)}")
    try:
        import atheris
    except ImportError:
        sys.exit("this needs atheris: pip install atheris")

    # Strands and its libraries are not instrumented, so that they do not distract the fuzzer.
    with atheris.instrument_imports(include=["strands_sqlite_session_manager"]):
        from . import targets
    from strands_sqlite_session_manager import cli  # noqa: F401 - imports all of the package, before the fuzzing

    name = arguments.pop(1)
    fuzz_one_input: Any = targets.TARGETS[name].test().hypothesis.fuzz_one_input
    # Short inputs are useless: hypothesis reads its choices from the bytes, and has none once they run out.
    atheris.Setup(
        [arguments[0], "-len_control=0", "-max_len=4096", *arguments[1:]], lambda data: fuzz_one_input(data) and None
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
