"""Programs for developers of the project: python -m tools.NAME --help."""
