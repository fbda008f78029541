"""How fast the package is, compared with bare SQLite and with Strands' own session managers.

`python -m tests.benchmarks` takes ten minutes to an hour and 4 GB of disk, and with `--quick` two to ten minutes. It
needs `pip install -e '.[bench]'`.
"""
