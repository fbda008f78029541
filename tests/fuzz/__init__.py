"""Fuzzing: what the package takes from outside, each kind as one property that any input must have.

`test_fuzz.py` runs them by chance; `python -m tests.fuzz` lets a fuzzer look for new paths through the package.
"""
