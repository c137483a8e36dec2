"""The report: a page that opens from disk, without a server and without network.

`front_page` makes the page of what `page_sources` reads. `overview` joins the rows by git-tracked figures
only; `first_screen`, `charts` and `figures_table` show them, and `suspects` questions labels by them. `row`
holds one row's rankings. `collection` is the list of test images to which the others refer by number. `made`
says when and from what the report was made. page/ holds the template, the style and the scripts.
"""
