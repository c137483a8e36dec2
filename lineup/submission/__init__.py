"""The competition's JSON, and the server that takes it."""
