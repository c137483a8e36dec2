"""The competition's JSON, and the request that sends it to the competition's server."""
