"""The comparison as people read it: sentences and tables, for the Markdown page and the HTML report."""
