"""The report: a page that opens from disk, without a server and without network.

`overview` joins the rows and reads git-tracked figures only, `charts` and `figures_table` show them; `row`
holds one row's rankings; `collection` is the list of test images to which the others refer by number.
page/ holds the template, the style and the scripts.
"""
