"""`hipedge serve`: the worklist in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import output, plain
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.web import check_installed


def serve(
    db: DbOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to serve on (default: 127.0.0.1, this machine).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port (default: 8464); 0 for any.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="TLS certificate with its chain, as PEM.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of the certificate.")] = None,
    blind: Annotated[
        bool | None,
        typer.Option("--blind", help="Hide findings from readers until they have answered."),
    ] = None,
    operating_point: OperatingPointOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve the worklist to browsers: see the films, and say whether the findings are right.

    Without users, it prints a link for the person who started it. On an address that other machines
    reach, it needs users (`hipedge user add`) and a certificate.
    """
    check_installed()
    from hipedge.web.server import serve as run_server

    flags = {
        "db": db,
        "web_host": host,
        "web_port": port,
        "web_certificate": certificate,
        "web_key": key,
        "web_blind": blind,
        "operating_point": operating_point,
    }

    def announce(address: str) -> None:
        output.print(plain(f"open {address}"), highlight=False, soft_wrap=True)

    run_server(load_settings(flags, config), announce)
