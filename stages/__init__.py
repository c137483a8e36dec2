"""The stages of the pipeline: one module each, run as `python -m stages.<name>`."""

import sys

if sys.argv[:1] == ["-m"]:  # its value while Python looks up the stage, which it imports next
    from lineup import launch

    launch.begin()
