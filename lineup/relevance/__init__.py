"""Which gallery images are relevant to which query: by labels, by qrels.csv, and by what people judged.

`prepared_relevance` reads `relevance` of the prepared photos, and `judged_relevance` adds `judgements`;
`agreement` says how far judges agree.
"""
