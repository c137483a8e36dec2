"""A row handed over to production: as a folder in open formats, or as a collection in a vector database."""
