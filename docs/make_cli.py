"""Write docs/cli.md from the commands' help: `python docs/make_cli.py`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from hipedge.cli import app

TARGET = Path(__file__).with_name("cli.md")
HEAD = "# Commands\n\nGenerated from the commands' help by `python docs/make_cli.py`.\n"


def render() -> str:
    """Return the page."""
    root = typer.main.get_command(app)
    return HEAD + "".join(_section(path, command) for path, command in _commands(root, "hipedge"))


# Typer has its own copy of Click, whose classes have no public names: hence Any.
def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _commands(child, f"{path} {name}")
    else:
        yield path, command


def _section(path: str, command: Any) -> str:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    usage = " ".join([path, *map(_argument, arguments), "[OPTIONS]"])
    rows = [f"- `{_argument(argument)}`: {argument.help}" for argument in arguments]
    rows += [f"- `{_option(option)}`: {option.help}" for option in options]
    text = inspect.cleandoc(command.help)
    return f"\n## {path}\n\n```text\n{usage}\n```\n\n{text}\n\n" + "\n".join(rows) + "\n"


def _argument(argument: Any) -> str:
    name = argument.name.upper()
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join((*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {option.name.upper()}"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
