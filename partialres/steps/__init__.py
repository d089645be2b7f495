"""The steps of the paper's Figure 2, each from files to files. The command line is a thin shell around them."""
