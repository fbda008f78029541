"""The command: runs the benchmarks that are asked for, all by default."""

import argparse
import inspect
import tempfile
from pathlib import Path

from . import catalog, resume, storage
from .timing import describe_machine

PARTS = {"storage": storage, "resume": resume, "catalog": catalog}


def main() -> None:
    """Parse the command line, and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Print how fast the package is.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"what to run: {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="smaller files and fewer rounds")
    parser.add_argument("--directory", type=Path, help="where the files go for a while (default: the temporary one)")
    args = parser.parse_args()
    for name in set(args.parts) - PARTS.keys():
        parser.error(f"there is no part {name!r}")
    print(describe_machine())
    for name in args.parts or PARTS:
        print(f"\n== {name}\n\n{inspect.getdoc(PARTS[name])}", flush=True)
        with tempfile.TemporaryDirectory(dir=args.directory, ignore_cleanup_errors=True) as folder:
            PARTS[name].run(Path(folder), args.quick)


if __name__ == "__main__":
    main()
