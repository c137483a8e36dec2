"""Files on disk: atomic writes, CSV, the Parquet tables and their schemas, the store of cached blobs."""
