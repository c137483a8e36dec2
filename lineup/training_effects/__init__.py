"""What training changed in a row: what it gained, what it forgot, and what the comparison says of both."""
