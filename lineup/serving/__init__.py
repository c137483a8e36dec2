"""The search page: a local web server for the rows that are computed here.

`app` routes the requests, and `row_pool` keeps the rows that are searched in memory; page/ holds the
template, the style and the script. No part of a request ever becomes part of a path.

The `latency` stage measures how long such a search takes: `ready_row` loads the row, `query_photos` are what
it is searched with, `query_times` times the searches, and `latency_figures` sums them up.
"""
