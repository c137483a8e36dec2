"""All rows beside each other, as records and as tables of figures: which is best, and by more than chance.

`pairs` tests every two rows, and `comparison` orders all of them. `dvc_views` and `sweeps` have the tables
that `dvc plots` draws. `snapshot` and `against` compare with an earlier comparison.
"""
