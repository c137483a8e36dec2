"""What several test files share: fixtures of data, projects, servers and browsers."""
