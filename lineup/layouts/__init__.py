"""How photos lie in the folder that a user has, one layout per file, and how they become data/raw."""
