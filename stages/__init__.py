"""Lineup's rooms: one module per pipeline stage, run as `python -m stages.<name>`."""

import sys

if sys.argv[:1] == ["-m"]:  # so Python looks for what it runs, which it imports after this package
    from lineup import launch

    launch.begin()
