"""The command line: each module holds a group of commands; `main` lists them all."""
