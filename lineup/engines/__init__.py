"""What computes an encoder's vectors: one engine per file, and what they share."""
