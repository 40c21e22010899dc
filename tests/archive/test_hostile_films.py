"""Films that kill the processes that read them: they are quarantined, and the job goes on."""

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs the extra ray")

from hipedge.archive import job, stages
from hipedge.archive.folder import ArchiveFolder
from hipedge.archive.stages import Reader
from hipedge.archive.table import outcomes_of
from hipedge.errors import Code
from hipedge.types import Refusal
from tests.archive.line import archive, request, write_films
from tests.watch.test_hurt_workers import HarmfulPreprocessor


class DeadlyReader(Reader):
    """Dies of a film that is called deadly, and leaves a note; its workers come to harm too."""

    def open(self) -> None:
        stages.Preprocessor = HarmfulPreprocessor
        super().open()

    def _read(self, rows):
        if any(isinstance(row, Path) and row.name == "deadly.dcm" for row in rows):
            with (self.job.out / "deaths").open("a") as notes:
                notes.write(f"{os.getpid()}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._read(rows)


@pytest.fixture
def asked(tmp_path, untrained_model):
    """A request for the films of all kinds, of which one ends the process that decodes it."""
    hips = write_films(tmp_path / "films")
    (tmp_path / "films/0002.dcm").rename(tmp_path / "films/segfaults.dcm")
    return request(tmp_path / "films", untrained_model, hips)


def refusals(out):
    """Return the codes of the films without result by name, and the number of all files."""
    folder = ArchiveFolder(out)
    done = [
        one.outcome
        for shard in folder.done(folder.manifest().shards)
        for one in outcomes_of(folder.read(shard))[0]
    ]
    codes = {one.source.name: one.code for one in done if isinstance(one, Refusal)}
    return codes, len(done)


def test_a_film_that_ends_its_worker_process_is_quarantined_after_two_deaths(
    tmp_path, asked, monkeypatch
):
    monkeypatch.setattr(stages, "Preprocessor", HarmfulPreprocessor)
    reports = archive(asked, tmp_path / "out")
    codes, count = refusals(tmp_path / "out")
    assert codes["segfaults.dcm"] is Code.WORKER_DIED
    assert list(codes.values()).count(Code.WORKER_DIED) == 1
    assert count == 19
    assert sum(report.deaths for report in reports) == 1  # it was given to a second one


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # those of Ray, in this process
def test_a_film_that_ends_rays_worker_is_quarantined_after_three_deaths_and_the_job_goes_on(
    tmp_path, asked, monkeypatch
):
    from hipedge.archive.cluster import connected

    monkeypatch.setattr(job, "Reader", DeadlyReader)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # sockets have short names
    (tmp_path / "films/0005.dcm").rename(tmp_path / "films/deadly.dcm")
    out = tmp_path / "out"
    with connected(None, cores=1) as cluster:
        done = job.run_job(asked, out, cluster, changed=lambda _: None)
    codes, count = refusals(out)
    assert codes["deadly.dcm"] is codes["segfaults.dcm"] is Code.WORKER_DIED
    assert list(codes.values()).count(Code.WORKER_DIED) == 2
    assert count == done.films == 19
    deaths = (out / "deaths").read_text().split()
    assert len(deaths) == len(set(deaths)) == 3
    assert not list(ArchiveFolder(out).attempts.iterdir())
