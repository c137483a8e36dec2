"""What an exported folder holds as it is: these files are copied, and import nothing of Lineup."""
