"""Fuzzing: for each kind of input from outside, one property that every input must have.

`test_fuzz.py` tries random inputs; `python -m tests.fuzz` lets a fuzzer look for new paths through the package.
"""
