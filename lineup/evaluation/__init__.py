"""Relevance, retrieval metrics, significance, costs, and the comparison of rows."""
