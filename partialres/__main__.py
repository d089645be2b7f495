"""`python -m partialres`: the command line where no script is installed, as in the workflow's conda environments."""

from partialres.cli import main

main(prog_name="partialres")
