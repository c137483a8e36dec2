"""The judging page: a person looks at the first answers of all rows, without knowing whose they are.

`pool` has the answers and their order, `questions` says which are asked, `suspects` finds labels in doubt.
`session` holds what was judged, `standing` hands it to the verdict, and `app` serves the page in page/.
"""
