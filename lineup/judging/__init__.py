"""The judging page: a person looks at the first answers of all rows, without knowing whose they are.

`pool` has the answers and their order, `questions` says which are asked, `suspects` finds labels in doubt.
`session` holds what was judged, and `standing` hands it to `verdict`, which says which row is better so far:
`estimates` has the figures, `leads` their bounds, `verdict_sentences` the words. `app` serves the page in
page/.
"""
