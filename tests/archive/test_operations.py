"""What an operator sees: the forecast, the metrics, the examples."""

import subprocess
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra ray")

import yaml
from typer.testing import CliRunner

from benchmarks.scaling import small_film
from benchmarks.screen_syntaxes import copies
from hipedge.archive.estimate import cost_of_run, sample_source
from hipedge.archive.folder import ArchiveFolder
from hipedge.archive.job import Progress, films_of
from hipedge.archive.metrics import STALLED_S, JobMetrics
from hipedge.archive.stages import ShardReport
from hipedge.cli import app
from hipedge.errors import Code
from tests.archive.line import archive, request, write_films

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


def hipedge(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "120"})


def get(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def test_the_forecast_names_hours_cost_and_what_is_busiest():
    done = hipedge(
        *("archive", "plan", "--films", 1_000_000, "--nodes", 10, "--cores", 16, "--gpus", 1),
        *("--read-s", 0.16, "--infer-s", 0.001, "--price", 2, "--failure-hours", 100),
    )
    assert done.exit_code == 0, done.output
    assert "reading" in done.stdout
    hours = float(done.stdout.split("hours")[1].split("│")[1].split()[0])
    assert hours == pytest.approx(1_000_000 * 0.16 / 160 / 3600, rel=0.15)
    cost = float(done.stdout.split("cost")[1].split("│")[1])
    assert cost == pytest.approx(hours * 20, rel=0.05)


def test_without_times_of_a_film_there_is_no_forecast():
    assert hipedge("archive", "plan", "--films", 10).exit_code == 2


def test_a_dry_run_measures_a_sample_and_writes_nothing(tmp_path, untrained_model):
    (tmp_path / "films").mkdir()
    copies(small_film(tmp_path), tmp_path / "films", 12)
    (tmp_path / "films/no image").touch()
    done = hipedge(
        *("archive", "run", tmp_path / "films", "--out", tmp_path / "out", "--dry-run"),
        *("--backend", "fake", "--model", untrained_model.path),
    )
    assert done.exit_code == 0, done.output
    assert "13 of" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_run_gives_the_times_of_its_films_and_the_films_that_are_done(tmp_path, untrained_model):
    asked = request(tmp_path / "films", untrained_model, write_films(tmp_path / "films"))
    out, folder = tmp_path / "out", ArchiveFolder(tmp_path / "out")
    archive(asked, out, most=4)
    cost = cost_of_run(folder)
    assert cost.films == 16
    assert 0 < cost.read_s < 60
    manifest = folder.manifest()
    assert films_of(folder, manifest, folder.pending(manifest.shards)) == 16
    folder.outcomes(0).unlink()
    archive(asked, out)
    assert films_of(folder, manifest, []) == manifest.films == 19
    assert films_of(folder, manifest, [4]) == 16
    assert films_of(folder, manifest, [0]) == 15


def test_a_sample_has_each_film_with_equal_probability(tmp_path):
    (tmp_path / "films.csv").write_text("path\n" + "".join(f"{n}.dcm\n" for n in range(1000)))
    numbers = []
    for seed in range(20):
        sampled = sample_source(str(tmp_path / "films.csv"), 50, seed)
        assert sampled.films == 1000
        numbers += [int(path.stem) for path in sampled.paths]
    assert 450 < sum(numbers) / len(numbers) < 550


def test_prometheus_is_told_how_far_the_job_is():
    metrics = JobMetrics()
    progress = Progress(films=1000, shards=8)
    report = ShardReport(0, films=128)
    report.summary.screened, report.summary.refused[Code.EMPTY_FILE] = 127, 1
    report.seconds["read"] += 12.5
    progress.add(report)
    with metrics.server(0) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert "hipedge_archive" not in get(f"{url}/metrics")
        metrics.update(progress)
        text = get(f"{url}/metrics")
        assert "hipedge_archive_films 1000.0" in text
        assert "hipedge_archive_films_done 128.0" in text
        assert 'hipedge_files_total{code="empty_file",state="quarantined"} 1.0' in text
        assert 'hipedge_stage_seconds_total{stage="read"} 12.5' in text
        assert get(f"{url}/healthz") == "ok"
        metrics.changed -= STALLED_S + 1
        with pytest.raises(urllib.error.HTTPError, match="503"):
            get(f"{url}/healthz")


def test_the_examples_are_a_script_and_a_ray_job():
    subprocess.run(["bash", "-n", EXAMPLES / "archive.slurm"], check=True)
    job = yaml.safe_load((EXAMPLES / "archive-kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert len(images) == 1
    assert "hipedge archive run" in job["spec"]["entrypoint"]
