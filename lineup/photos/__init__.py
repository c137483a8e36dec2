"""Photos on disk: scanning data/raw, decoding, prepared images, duplicates, thumbnails."""
