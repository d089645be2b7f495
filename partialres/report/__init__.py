"""Make the tables, figures and galleries of the report, each from the files that its command is given."""
