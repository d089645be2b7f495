"""Make the report's tables, figures and picture galleries, each from the files given to its command."""
