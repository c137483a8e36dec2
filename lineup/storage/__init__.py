"""Files that appear by a rename, and the schemas of the Parquet tables."""
