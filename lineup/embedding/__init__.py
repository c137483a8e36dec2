"""Prepared images to vectors, and the caches of vectors and pixels."""
