"""The command line in this process."""

import sys

import search.cli.main


def main(*arguments):
    """Run the command line in this process; return its exit code."""
    given, sys.argv = sys.argv, ["injerto", *map(str, arguments)]
    try:
        search.cli.main.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = given
    return 0
