"""Real nodes of Ray, of which processes are killed: nothing is lost, nothing is there twice."""

import subprocess

import pytest

pytest.importorskip("ray", reason="needs the extra ray")

from benchmarks.archive import Nodes, hipedge, rows, run_and_kill
from hipedge.archive.folder import ArchiveFolder
from hipedge.store.store import Store
from tests.archive.line import request, screened, write_films

pytestmark = pytest.mark.filterwarnings("ignore")  # those of Ray, in this process


@pytest.fixture
def job(tmp_path, untrained_model, monkeypatch):
    """A function that runs a job to its end and merges it; it returns the kills and the rows."""
    monkeypatch.setenv("RAY_prestart_worker_first_driver", "0")  # two processes fewer
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # sockets have short names

    def run(nodes, films, kinds, every_s=(4.0, 12.0), shard_films=4):
        folder, out = tmp_path / "films", tmp_path / "out"
        hips = write_films(folder, films)
        options = ["--hips", hips, "--model", untrained_model.path, "--backend", "fake"]
        with Nodes(nodes) as cluster:
            command = hipedge("archive", "run", folder, "--out", out, *options)
            command += ["--address", cluster.address, "--shard-films", str(shard_films)]
            done = run_and_kill(
                command, tmp_path / "log", cluster, kinds=kinds, every_s=every_s, seed=1
            )
        merged = tmp_path / "merged.db"
        subprocess.run(hipedge("archive", "merge", out, "--db", merged), check=True)
        screened(request(folder, untrained_model, hips), tmp_path / "screened.db")
        assert rows(merged) == rows(tmp_path / "screened.db")
        with Store(merged) as store:
            (count,) = store.query("select count(*) as paths from paths")
        assert count["paths"] == ArchiveFolder(out).manifest().films == films + 7
        assert not list(out.glob("attempts/*"))
        return done

    return run


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_worker_of_two_nodes_is_killed_and_every_film_is_recorded_once(job):
    done = job(2, films=40, kinds=["worker"])
    assert done.kills["worker"] <= 1  # a quiet machine may be done before
    assert done.drivers == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_drivers_raylets_workers_and_decoders_of_four_nodes_are_killed(job):
    kinds = ["driver", "raylet", "worker", "decoder", "raylet", "driver"]
    done = job(4, films=600, kinds=kinds, every_s=(10.0, 30.0), shard_films=8)
    assert done.drivers >= 2
