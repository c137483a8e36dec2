"""Lineup's rooms: one module per pipeline stage, run as `python -m stages.<name>`."""
