"""From prepared images to vectors, and the caches of vectors and pixels."""
