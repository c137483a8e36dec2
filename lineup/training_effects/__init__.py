"""What training changed in a row: what it gained, what it forgot, and what the comparison says of both.

`against_start` compares a trained row with the row that it started from: in `seen_labels` and `seen_values`
on what training had seen and what it had not, in `transfer` on a second test set. `training_sections` puts
their sentences together.
"""
