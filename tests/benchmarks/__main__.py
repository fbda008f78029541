"""The command: runs the benchmarks that you name, or all except `table`."""

import argparse
import importlib.util
import tempfile
from pathlib import Path

from . import catalog, conversations, deletion, message_table, server, size, snapshots, storage, writers
from .report import Report

PARTS = {
    "storage": storage,
    "conversations": conversations,
    "writers": writers,
    "server": server,
    "size": size,
    "catalog": catalog,
    "deletion": deletion,
    "snapshots": snapshots,
    "table": message_table,
}
ON_REQUEST = {"table"}  # it served a decision that has been made


def main() -> None:
    """Parse the command line, and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Tell how fast the package is.")
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"what to run: {', '.join(PARTS)}; default: all but table"
    )
    parser.add_argument("--quick", action="store_true", help="smaller files and fewer rounds")
    parser.add_argument("--directory", type=Path, help="where the files go for a while (default: the temporary one)")
    parser.add_argument("--output", type=Path, help="a folder for results.md and charts of it, beside what is printed")
    args = parser.parse_args()
    for name in set(args.parts) - PARTS.keys():
        parser.error(f"there is no part {name!r}")
    for module in ("moto", "matplotlib"):
        if not importlib.util.find_spec(module) and (args.output or module != "matplotlib"):
            parser.error(f"{module} is missing: pip install -e '.[bench]'")
    report = Report(args.quick)
    for name in args.parts or [name for name in PARTS if name not in ON_REQUEST]:
        report.begin(name, PARTS[name])
        with tempfile.TemporaryDirectory(dir=args.directory, ignore_cleanup_errors=True) as folder:
            PARTS[name].run(Path(folder), args.quick, report)
        if args.output:
            report.write(args.output)


if __name__ == "__main__":
    main()
