"""The search page: a local web server for the rows that are computed here.

`app` routes the requests, and `row_pool` keeps the rows that are searched in memory; page/ holds the
template, the style and the script. No part of a request ever becomes part of a path.
"""
