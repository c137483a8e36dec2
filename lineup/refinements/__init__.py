"""Rows made of other rows: one method per file, and the contract of all of them in `refinement`.

No method, but what the `refine` stage needs for each: `sources` reads the rows that a refinement is made of,
`own_vectors` writes its vectors, and `costs` says what it takes. `ordering` is what methods share.
"""
