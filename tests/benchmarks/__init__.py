"""How fast the package is, compared with bare SQLite and with Strands' own session managers.

`python -m tests.benchmarks` takes about ten minutes and 4 GB of disk, `python -m tests.benchmarks --quick` two minutes.
It needs `pip install -e '.[bench]'`.
"""
