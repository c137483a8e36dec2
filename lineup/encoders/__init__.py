"""Networks that map an image to a vector: one library per file, and what the libraries share."""
