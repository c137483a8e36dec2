"""What the stages share; imports go down only (see pyproject.toml, import-linter)."""
