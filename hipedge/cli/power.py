"""`hipedge power`: sample sizes for studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hipedge.cli.console import output
from hipedge.study import check_installed

if TYPE_CHECKING:
    from hipedge.study.power import SampleSize

app = typer.Typer(no_args_is_help=True, help="Sample sizes of studies.")

PowerOption = Annotated[float, typer.Option(min=0.01, max=0.999, help="Target power.")]
SimulationsOption = Annotated[int, typer.Option(min=1, help="Number of simulated studies.")]


@app.command()
def sensitivity(
    expected: Annotated[float, typer.Option(help="Expected sensitivity.")],
    half_width: Annotated[float, typer.Option(help="Half-width of the interval, as a proportion.")],
    prevalence: Annotated[
        float, typer.Option(help="Proportion of collected hips with the condition.")
    ] = 1.0,
    simulations: SimulationsOption = 2_000,
) -> None:
    """Sample size for a sensitivity (or any proportion) with a 95 % interval of a given width."""
    check_installed()
    from hipedge.study.power import size_for_sensitivity

    size = size_for_sensitivity(
        expected, half_width, prevalence=prevalence, simulations=simulations
    )
    output.print(f"{size.cases:,} hips with the condition, {size.hips:,} in total")
    _print_power("interval no wider than planned", size)


@app.command("non-inferiority")
def non_inferiority(
    discordant: Annotated[
        float,
        typer.Option(
            help="Proportion of hips that only one of model and reader answers correctly."
        ),
    ],
    difference: Annotated[float, typer.Option(help="True difference, model less reader.")] = 0.0,
    margin: Annotated[float, typer.Option(help="Non-inferiority margin, as a proportion.")] = 0.05,
    power: PowerOption = 0.8,
    simulations: SimulationsOption = 2_000,
) -> None:
    """Sample size to show non-inferiority in accuracy, with model and reader on the same hips."""
    check_installed()
    from hipedge.study.power import size_for_non_inferiority

    size = size_for_non_inferiority(
        discordant, difference=difference, margin=margin, power=power, simulations=simulations
    )
    output.print(f"{size.hips:,} hips")
    _print_power("power", size)


@app.command()
def readers(
    accuracy: Annotated[float, typer.Option(help="Accuracy of the readers alone.")],
    gain: Annotated[float, typer.Option(help="Gain from assistance, as a proportion.")],
    number: Annotated[int, typer.Option("--readers", min=2, help="Number of readers.")] = 6,
    same_reader: Annotated[
        float,
        typer.Option(help="Correlation between a reader's two answers for a hip, correct or not."),
    ] = 0.45,
    same_phase: Annotated[
        float, typer.Option(help="Correlation between two readers' answers in the same phase.")
    ] = 0.35,
    neither: Annotated[
        float, typer.Option(help="Correlation between two readers' answers in different phases.")
    ] = 0.30,
    reader_sd: Annotated[
        float, typer.Option(help="Standard deviation of the gain between readers.")
    ] = 0.015,
    power: PowerOption = 0.8,
    simulations: SimulationsOption = 400,
) -> None:
    """Sample size of a two-phase reader study to detect a gain, with readers as a random sample."""
    check_installed()
    from hipedge.study.power import ReaderStudyPlan, size_for_readers

    plan = ReaderStudyPlan(number, accuracy, gain, same_reader, same_phase, neither, reader_sd)
    size = size_for_readers(plan, power=power, simulations=simulations)
    output.print(f"{size.hips:,} hips, each read twice by {number} readers")
    _print_power("power", size)


def _print_power(what: str, size: SampleSize) -> None:
    output.print(
        f"{what}: {size.by_formula:.1%} by formula, {size.by_simulation:.1%} by simulation"
    )
