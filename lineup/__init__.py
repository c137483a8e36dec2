"""Lineup, the library: one folder per concept.

Imports go down only; pyproject.toml holds the order of the layers.
"""
