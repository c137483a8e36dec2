"""The search page: a local web server over the rows that are computed here.

`app` is what it answers over HTTP, `rooms` the rows kept ready to answer; page/ holds the template, the style
and the script. Nothing of a request ever becomes part of a path.
"""
