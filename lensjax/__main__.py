"""`python -m lensjax` is the command `lensjax`."""

from lensjax.commands.cli import main

main()
