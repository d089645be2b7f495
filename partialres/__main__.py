"""`python -m partialres`: the command line without an installed script, as conda jobs of the workflow call it."""

from partialres.cli import main

main(prog_name="partialres")
