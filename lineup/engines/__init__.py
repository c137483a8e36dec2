"""What computes an encoder's vectors: one engine per file, and how one is chosen and given an encoder."""
