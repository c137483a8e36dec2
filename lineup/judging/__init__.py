"""The judging page: a person looks at the first answers of all rows, without knowing whose they are.

`pool` says which pairs are asked and in which order, `suspects` which labels are in doubt. `session` holds
what was judged, `standing` hands it to the verdict, and `app` serves the page in page/.
"""
