"""Lineup against other ways of doing the same, each a module of its own: `python -m benchmarks` lists them."""

import sys

if sys.argv[:1] == ["-m"]:  # so Python looks for what it runs, which it imports after this package
    from benchmarks import command

    command.begin()
