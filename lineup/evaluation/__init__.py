"""How good one row is: which answers are relevant, the metrics of each query, and how certain they are."""
