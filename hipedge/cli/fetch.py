"""`hipedge fetch`: fetch radiographs of past days from a DICOMweb server."""

from __future__ import annotations

import logging
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import output
from hipedge.cli.options import ConfigOption
from hipedge.config import load_settings
from hipedge.errors import InputError
from hipedge.network.dicomweb import DicomWeb
from hipedge.network.fetch import Query
from hipedge.network.fetch import fetch as run
from hipedge.network.pace import Hours, Pace
from hipedge.service_log import configure_logging

DAY = "%Y-%m-%d"
MODALITIES = ("DX", "CR")


def fetch(
    url: Annotated[str, typer.Argument(help="The server, such as https://pacs/dicom-web.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the films.")],
    since: Annotated[
        datetime,
        typer.Option(help="First day of the studies.", formats=[DAY], metavar="YYYY-MM-DD"),
    ],
    until: Annotated[
        datetime | None,
        typer.Option(help="Last day (default: today).", formats=[DAY], metavar="YYYY-MM-DD"),
    ] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option(help="Modality; can be given several times (default: DX and CR)."),
    ] = None,
    body_part: Annotated[
        list[str] | None,
        typer.Option(help="Body Part Examined of the series, or none; can be given several times."),
    ] = None,
    per_minute: Annotated[
        float, typer.Option(min=0.1, help="The most requests in a minute.")
    ] = 60.0,
    hours: Annotated[
        str | None, typer.Option(help="Hours of the day, local time, such as 20-6.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Fetch radiographs from a DICOMweb server (QIDO-RS, WADO-RS) into a folder.

    It can be interrupted at any time: the same command goes on where it was, and fetches no film
    twice. Each film gets a random name; `hipedge screen` or `hipedge watch` then screens the
    folder. Ends with 1 if some films were not delivered.
    """
    configure_logging(logging.INFO)
    settings = load_settings({}, config)
    pace = Pace(per_minute, Hours.parse(hours) if hours else None)
    server = DicomWeb(
        url,
        authorization=_read(settings.fetch_authorization_file),
        authorities=settings.fetch_tls_authorities,
        before_request=pace.wait,
    )
    last = until.date() if until else date.today()
    parts = frozenset(part.upper() for part in body_part or ())
    query = Query(since.date(), last, tuple(modality or MODALITIES), parts)
    fetched = run(server, folder, query, settings.reserve_mb << 20)
    output.print(
        f"{fetched.films} films fetched, {fetched.known} fetched before, {fetched.failed} failed"
    )
    if fetched.failed:
        raise typer.Exit(1)


def _read(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{file} cannot be read: {type(error).__name__}") from error
