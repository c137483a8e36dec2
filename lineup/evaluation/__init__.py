"""How good one row is: the metrics of each query, their averages, and how certain both are.

`metrics` has the formulas, and `bounds` what they can be where relevance is unknown; `scoring` applies both
to rankings. `averages`, `identification_figures` and `row_summary` make the row's record of it,
`row_metrics`; `query_lines` writes the table of queries, and `query_tables` reads it. `significance` has the
intervals and tests for all that is compared.
"""
