"""The comparison as people read it: sentences and tables, for the Markdown page and the HTML report.

`sentences` and `tables` say all of it, with a file for each subject beside them; `markdown` makes the page.
Text is made of the marked parts in `rich_text`.
"""
