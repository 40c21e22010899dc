"""`hipedge study`: reader studies, which readers do in `hipedge serve`."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hipedge.cli.console import output, plain
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import Settings, load_settings
from hipedge.errors import InputError
from hipedge.store.accounts import Accounts, Role
from hipedge.store.readings import Readings, Standing
from hipedge.store.rows import Case
from hipedge.store.studies import READ_PHASES, Phase, Studies, Study, StudyPlan
from hipedge.web import check_installed

app = typer.Typer(
    help="Run reader studies: hips that readers classify in `hipedge serve`, alone and assisted.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(help="Name of the study.")]
_NAME = re.compile(r"[\w .,-]{1,64}")
_SPAN = re.compile(r"(\d{1,4})([dh])")
_UNITS = {"d": "days", "h": "hours"}


@app.command("new")
def new(
    cases: Annotated[
        Path,
        typer.Argument(
            help="CSV of hips: path, content_hash, sha256 or sop_instance_uid; side, category, "
            "patient."
        ),
    ],
    readers: Annotated[
        list[str],
        typer.Option(
            help="Users who read, with their grades: rita=senior,robert=junior.", show_default=False
        ),
    ],
    phases: Annotated[
        str, typer.Option(help="alone, assisted, or alone,assisted.")
    ] = "alone,assisted",
    washout: Annotated[
        str,
        typer.Option(
            help="Days (28d) or hours (12h) from a reader's last answer alone to assisted."
        ),
    ] = "28d",
    training: Annotated[
        Path | None, typer.Option(help="CSV of hips to practise on, whose truth readers are told.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the study (default: that of the CSV file).")
    ] = None,
    go_back: Annotated[
        bool,
        typer.Option("--go-back", help="Readers may change answers until a phase is finished."),
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**53, help="Seed of the orders (default: random).")
    ] = None,
    db: DbOption = None,
    operating_point: OperatingPointOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a reader study of hips in the database: each reader gets them in an order of their own.

    The CSV is the one of labels that `hipedge readers` takes afterwards. Films and findings are
    noted now, and stay as they are in the study. Until a reader has finished, the server shows that
    reader nothing of these films elsewhere.
    """
    check_installed()
    from hipedge.review.worklist import open_review
    from hipedge.study.drawn import draw_hips
    from hipedge.web.check import films_not_shown

    settings = load_settings({"db": db, "operating_point": operating_point}, config)
    grades = _grades(readers)
    chosen = cases.stem if name is None else name
    if not _NAME.fullmatch(chosen):
        raise InputError(f"{chosen!r} is no name of a study: give one of letters with --name")

    def check_films(found: Sequence[Case]) -> Mapping[str, str]:
        return films_not_shown(settings, found)

    with Accounts(settings.web_database) as accounts:
        _check_users(accounts, grades)
        with open_review(settings.db, settings) as (store, rules):
            hips, model = draw_hips(cases, training, store.all_cases(rules), check_films)
        plan = StudyPlan(
            name=chosen,
            readers=grades,
            phases=_phases(phases),
            washout=_span(washout),
            goes_back=go_back,
            seed=secrets.randbelow(2**31) if seed is None else seed,
            model=model,
        )
        with Studies(settings.study_database) as studies:
            studies.add(plan, hips)
        accounts.log("(console)", "", "study_added", detail=chosen)
        films = {hip.content_hash for hip in hips}
        seen = {reader: accounts.films_seen(reader, films) for reader in grades}
    count = sum(not hip.is_training for hip in hips)
    output.print(
        plain(f"study {chosen}: {count} hips, {len(grades)} readers, seed {plan.seed}"),
        highlight=False,
    )
    for reader, number in seen.items():
        if number:
            text = f"{reader} has seen {number} of the films in `hipedge serve` before"
            output.print(f"[yellow]note:[/] {plain(text)}", highlight=False, soft_wrap=True)


@app.command("list")
def list_studies(db: DbOption = None, config: ConfigOption = None) -> None:
    """List the studies."""
    table = Table("study", "hips", "phases", "wash-out", "readers", "finished", "")
    with _studies(load_settings({"db": db}, config)) as studies:
        for study in studies.all():
            plan, standings = study.plan, _standings(studies, study)
            finished = sum(standing.phase is None for standing in standings.values())
            table.add_row(
                plain(plan.name),
                str(study.hips),
                ", ".join(phase.value for phase in plan.phases),
                plan.washout_text if len(plan.phases) > 1 else "",
                str(len(plan.readers)),
                str(finished),
                "closed" if study.closed_at else "",
            )
    output.print(table)


@app.command("status")
def status(name: NameArgument, db: DbOption = None, config: ConfigOption = None) -> None:
    """Show how far each reader is. No answer is shown."""
    with _studies(load_settings({"db": db}, config)) as studies:
        study = studies.by_name(name)
        standings = _standings(studies, study)
    table = Table("reader", "grade", "phase", "answered", "opens", "finished")
    for reader, standing in standings.items():
        finished = [
            f"{phase.value} {moment.astimezone():%Y-%m-%d %H:%M}"
            for phase, moment in standing.finished_at.items()
        ]
        opens_at = standing.opens_at
        table.add_row(
            plain(reader),
            plain(study.plan.readers[reader]),
            standing.phase.value if standing.phase else "finished",
            f"{standing.done} of {standing.total}" if standing.phase else "",
            f"{opens_at.astimezone():%Y-%m-%d %H:%M}" if opens_at else "",
            "\n".join(finished),
        )
    output.print(table)
    plan = study.plan
    text = f"{study.hips} hips, {study.training} for training; seed {plan.seed}; model {plan.model}"
    output.print(plain(text), highlight=False, soft_wrap=True)
    if study.closed_at:
        output.print(f"closed {study.closed_at}", highlight=False)


@app.command("export")
def export(
    name: NameArgument,
    target: Annotated[Path, typer.Argument(help="CSV to write: the reads for `hipedge readers`.")],
    predictions: Annotated[
        Path | None,
        typer.Option(help="CSV to write too: the findings as the study has them, for "
                          "`hipedge readers --model-predictions`."),
    ] = None,
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """Write the answers of a study as the reads that `hipedge readers` analyses."""
    from hipedge.study.drawn import export_predictions, export_reads

    with _studies(load_settings({"db": db}, config)) as studies:
        study = studies.by_name(name)
        written = export_reads(studies, study, target)
        if predictions is not None:
            export_predictions(studies, study, predictions)
    text = f"{written.reads} reads"
    if written.missing:
        text += f"; {written.missing} still to come"
    if written.not_shown:
        text += f"; {written.not_shown} without an answer, since the film could not be shown"
    output.print(text, highlight=False)


@app.command("close")
def close(name: NameArgument, db: DbOption = None, config: ConfigOption = None) -> None:
    """End a study for good: nobody reads in it any more, and its films are shown to all again."""
    settings = load_settings({"db": db}, config)
    with _studies(settings) as studies, Accounts(settings.web_database) as accounts:
        study = studies.by_name(name)
        studies.close(study.study_id)
        accounts.log("(console)", "", "study_closed", detail=name)


def _studies(settings: Settings) -> Studies:
    if not settings.study_database.exists():
        raise InputError(
            f"there is no study in {settings.study_database}: `hipedge study new` makes one"
        )
    return Studies(settings.study_database)


def _standings(studies: Studies, study: Study) -> dict[str, Standing]:
    readings = Readings(studies)
    return {reader: readings.standing(study, reader) for reader in study.plan.readers}


def _grades(texts: Sequence[str]) -> dict[str, str]:
    """Return the grade of each reader, from NAME=GRADE,NAME=GRADE."""
    grades: dict[str, str] = {}
    for text in ",".join(texts).split(","):
        name, _, grade = (part.strip() for part in text.partition("="))
        if not name or name in grades:
            raise InputError(f"--readers {','.join(texts)}: a reader is missing or there twice")
        grades[name] = grade or "ungraded"
    return grades


def _check_users(accounts: Accounts, readers: Mapping[str, str]) -> None:
    problems = []
    for reader in readers:
        user = accounts.user(reader)
        if user is None or user.disabled:
            problems.append(f"{reader} is no user: `hipedge user add {reader} --role reader`")
        elif user.role is not Role.READER:
            problems.append(
                f"{reader} is {user.role.value}, and cannot "
                + ("answer" if user.role is Role.VIEWER else "read blind: the log shows too much")
                + f": `hipedge user role {reader} reader`"
            )
    if problems:
        raise InputError("\n".join(problems))


def _phases(text: str) -> tuple[Phase, ...]:
    names = [name.strip() for name in text.split(",")]
    phases = tuple(phase for phase in READ_PHASES if phase.value in names)
    if [phase.value for phase in phases] != names:
        raise InputError(f"--phases {text}: alone, assisted, or alone,assisted")
    return phases


def _span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise InputError(f"--washout {text}: a number of days or hours, as 28d or 12h")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
