"""Run the command line: ``python -m search.cli``."""

from search.cli.main import main

main()
