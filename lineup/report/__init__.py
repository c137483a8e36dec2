"""The report: a page that opens from disk, without a server and without network.

`front` is what joins the rows (it reads git-tracked figures only), `row` one row's answers, `collection` the
test images that both refer to by number, `thumbnails` their pictures; page/ holds the template, the style and
the scripts.
"""
