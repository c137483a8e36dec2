"""Lineup compared with other ways of doing the same, one module each: `python -m benchmarks` lists them."""

import sys

# While Python looks for the module that it runs, sys.argv starts with "-m"; it imports this package first.
if sys.argv[:1] == ["-m"]:
    from benchmarks import command

    command.begin()
