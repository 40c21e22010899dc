"""`hipedge user`: who may log in to `hipedge serve`."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.table import Table

from hipedge.cli.console import output, plain
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.errors import InputError
from hipedge.store.accounts import Accounts, Role
from hipedge.web import check_installed

app = typer.Typer(help="Manage who may log in to `hipedge serve`.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="User name.")]
RoleOption = Annotated[
    Role,
    typer.Option(help="viewer: look at cases; reader: also answer; admin: also read the log."),
]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@app.command("add")
def add(
    name: NameArgument,
    role: RoleOption = Role.READER,
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a user, and ask for the password, or read it from standard input."""
    if not _NAME.fullmatch(name):
        raise InputError("a user name has 1 to 64 letters, digits, '.', '_', '@' or '-'")
    with _accounts(db, config) as accounts:
        accounts.add_user(name, role, _new_password(name))
        accounts.log("(console)", "", "user_added", detail=f"{name}: {role.value}")
    output.print(plain(f"{name} may log in as {role.value}"))


@app.command("list")
def list_users(db: DbOption = None, config: ConfigOption = None) -> None:
    """List the users."""
    table = Table("name", "role", "")
    with _accounts(db, config) as accounts:
        for user in accounts.users():
            table.add_row(plain(user.name), user.role.value, "disabled" if user.disabled else "")
    output.print(table)


@app.command("password")
def password(name: NameArgument, db: DbOption = None, config: ConfigOption = None) -> None:
    """Replace a user's password, and end the user's sessions."""
    with _accounts(db, config) as accounts:
        accounts.set_password(name, _new_password(name))
        accounts.log("(console)", "", "password_changed", detail=name)


@app.command("role")
def set_role(
    name: NameArgument,
    role: Annotated[Role, typer.Argument(help="The new role.")],
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Change a user's role, and end the user's sessions."""
    with _accounts(db, config) as accounts:
        accounts.set_role(name, role)
        accounts.log("(console)", "", "role_changed", detail=f"{name}: {role.value}")


@app.command("disable")
def disable(name: NameArgument, db: DbOption = None, config: ConfigOption = None) -> None:
    """Lock a user out, at once. The user's answers and the log stay."""
    with _accounts(db, config) as accounts:
        accounts.set_disabled(name, disabled=True)
        accounts.log("(console)", "", "user_disabled", detail=name)


@app.command("enable")
def enable(name: NameArgument, db: DbOption = None, config: ConfigOption = None) -> None:
    """Let a user in again who was disabled."""
    with _accounts(db, config) as accounts:
        accounts.set_disabled(name, disabled=False)
        accounts.log("(console)", "", "user_enabled", detail=name)


def _accounts(db: DbOption, config: ConfigOption) -> Accounts:
    return Accounts(load_settings({"db": db}, config).web_database)


def _new_password(name: str) -> str:
    """Ask for a password twice, and return its hash."""
    check_installed()
    from hipedge.web.passwords import hash_password

    text = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return hash_password(text, name)
