"""What the results look like: tables, figures and a gallery, each from the files it is given to one place."""
