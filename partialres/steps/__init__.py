"""The steps of the paper's Figure 2. Each reads and writes files; the command line only parses their options."""
