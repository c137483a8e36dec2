"""How good one row is: the metrics of each query, their averages, and how certain both are."""
