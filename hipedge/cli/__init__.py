"""The command line: parse, call once, render, exit; one file per command."""
