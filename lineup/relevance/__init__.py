"""Which gallery images are relevant to which query: by labels, by qrels.csv, and by what people judged."""
