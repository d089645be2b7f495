"""Programs for people who work on the project: python -m tools.NAME --help."""
