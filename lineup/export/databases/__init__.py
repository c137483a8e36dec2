"""Vector databases, one per file, named as in `lineup export ROW --into NAME:ADDRESS`."""
