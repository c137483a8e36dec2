"""params.yaml, read and checked: pydantic models of each section."""
