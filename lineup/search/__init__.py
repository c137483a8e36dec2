"""Nearest neighbours: exact and approximate, in FAISS."""
