"""Networks that map an image to a vector: one library of encoders per file, and what they share."""
