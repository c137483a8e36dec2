"""Rows made of other rows: one method per file."""
