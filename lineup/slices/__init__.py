"""How good each row is in slices: groups of queries that share the value of an attribute."""
