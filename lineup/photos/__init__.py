"""Photos on disk: scanning data/raw, decoding, prepared images, duplicates, thumbnails.

`raw_folder`, `raw_tables` and `raw_attributes` list a folder of photos in the `photo_register`, a temporary
database. `registration` adds what the files hold, by `scan` and `image_preparation`. `part_tables`,
`qrels_table`, `attribute_table`, `duplicates` and `problems` give the rows of the tables that `preprocess`
writes of it.
"""
