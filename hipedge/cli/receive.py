"""`hipedge receive`: receive films from modalities and PACS by DICOM."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.options import ConfigOption
from hipedge.config import load_settings
from hipedge.network.receive import receive as run_service
from hipedge.service_log import configure_logging


def receive(
    folder: Annotated[Path, typer.Argument(help="Folder for the films, which `watch` watches.")],
    ae_title: Annotated[
        str | None, typer.Option(help="AE title of this node (default: HIPEDGE).")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen at (default: this machine only).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen at (default: 11112).")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log every film.")] = False,
    config: ConfigOption = None,
) -> None:
    """Receive films by DICOM (C-STORE, C-ECHO) into a folder, until SIGTERM or Ctrl-C.

    A film is acknowledged with success once it is complete on the disk. It gets a random name, and
    is not decoded: `hipedge watch` on the folder screens it. Who may send is a matter of settings.
    """
    flags = {"receive_ae_title": ae_title, "receive_host": host, "receive_port": port}
    configure_logging(logging.DEBUG if debug else logging.INFO)
    run_service(folder, load_settings(flags, config))
