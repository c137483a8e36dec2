"""The competition's JSON, and its sending to the competition's server."""
