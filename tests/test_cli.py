"""The commands, as a clinic runs them: a real model, a real database, real or drawn films."""

import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from hipedge.cli import COMMANDS, app, main
from hipedge.model import packaged
from hipedge.store.store import Store
from tests.processes import heed_interrupts


@pytest.fixture(scope="session")
def model(untrained_model):
    return untrained_model.path


@pytest.fixture
def site(tmp_path, monkeypatch, model):
    """An empty folder to work in, with the model named by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIPEDGE_MODEL", str(model))
    monkeypatch.setenv("HIPEDGE_WORKERS", "2")
    monkeypatch.setenv("HIPEDGE_BACKEND", "onnxruntime")  # `auto` depends on what is installed
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return tmp_path


def run(*arguments):
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


def hipedge(*arguments, **options):
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "hipedge", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        **options,
    )


def draw_pelvis(path, *, seed=0):
    """A film with two bright heads in sockets, unlike any other: enough for a bilateral view."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:400, :480]
    film = 60 + 20 * rng.random((400, 480)) + 60 * (abs(x - 240) < 190)
    for centre in (130, 350):
        film += 50 * (np.hypot(x - centre, y - 200) < 30)
        film += 50 * ((abs(x - centre) < 20) & (y > 220))
        film += 40 * ((abs(x - centre) < 60) & (y < 180) & (y > 60))
    Image.fromarray(np.clip(film, 0, 255).astype(np.uint8)).save(path)


LATIN_1 = b"M\xfcller.dcm"
ERASING = b"x\x1b[2J\x1b[1A\n\xe2\x80\xae.dcm"  # with a line's end, and to be read backwards
MARKUP = b"[red] [bold].dcm"


@pytest.fixture
def ill_named(site):
    """A database of files whose names are no text, move the cursor, or are the tables' markup."""
    folder = site / "incoming"
    folder.mkdir()
    for name in (LATIN_1, ERASING, MARKUP):
        (folder / os.fsdecode(name)).write_bytes(b"no film: " + name)
    assert run("screen", "incoming", "--backend", "fake") == 0
    return folder


@pytest.fixture
def incoming(site):
    """Two films with hips that a person has marked, so that nothing depends on their drawing."""
    folder = site / "incoming"
    folder.mkdir()
    rows = ["path,side,x,y"]
    for seed in range(2):
        draw_pelvis(folder / f"film{seed}.png", seed=seed)
        rows += [f"incoming/film{seed}.png,right,130,200", f"incoming/film{seed}.png,left,350,200"]
    (site / "hips.csv").write_text("\n".join(rows) + "\n")
    return folder


def rows(db, sql, timeout_s=5.0):
    with closing(sqlite3.connect(db, timeout=timeout_s)) as connection:
        return connection.execute(sql).fetchall()


def test_screening_a_folder_records_every_hip_once(incoming):
    for _ in range(2):
        assert run("screen", incoming, "--hips", "hips.csv") == 0
    assert rows("hipedge.db", "select state, count(*) from files group by state") == [
        ("screened", 2)
    ]
    assert rows("hipedge.db", "select side, count(*) from hips group by side") == [
        ("left", 2),
        ("right", 2),
    ]
    assert rows("hipedge.db", "select count(*) from runs where finished_at is not null") == [(2,)]


def test_every_row_says_which_model_thresholds_and_backend_produced_it(incoming, untrained_model):
    run("screen", incoming, "--hips", "hips.csv")
    (row,) = rows(
        "hipedge.db",
        "select distinct models.model_id, runs.backend, runs.backend_reason, operating_point"
        " from decisions join hips on hips.id = hip_id join files on files.id = file_id"
        " join runs on runs.id = run_id join models on models.model_id = files.model_id",
    )
    model_id, backend, reason, operating_point = row
    assert model_id == untrained_model.model_id
    assert backend.startswith("onnxruntime=")
    assert "CPUExecutionProvider" in backend
    assert reason
    assert operating_point == "sensitive"


def test_rows_of_hips_that_no_film_uses_are_named(incoming, capsys):
    marks = incoming.parent / "hips.csv"
    unknown = "1.2.826.0.1.3680043.8.498.7"
    marks.write_text(
        "path,sop_instance_uid,side,x,y\nfilm0.png,,right,130,200\nincoming/film0.png,,left,350,200\n"
        f",{unknown},right,1,1\nincoming/film1.png,,left,350,200\nincoming/\x1b[2J,,left,1,1\n"
    )
    assert run("screen", incoming, "--hips", "hips.csv") == 0
    said = capsys.readouterr().err
    assert "line 2: film0.png: matches no film" in said
    assert f"line 4: {unknown}: matches no film" in said
    assert r"line 6: incoming/\x1b[2J: matches no film" in said
    assert said.count("matches no film") == 3
    assert "hips are unchanged" not in said
    run("screen", incoming, "--hips", "hips.csv")
    said = capsys.readouterr().err
    assert said.count("matches no film") == 3
    assert "films recorded before, whose hips are unchanged: 2" in said


def test_an_untrained_model_says_so_in_every_output(incoming, capsys):
    run("screen", incoming, "--hips", "hips.csv")
    assert "random" in capsys.readouterr().err
    for command in (["flagged"], ["show", "1"]):
        run(*command)
        assert "untrained" in capsys.readouterr().err
    run("show", "1", "--json")
    assert json.loads(capsys.readouterr().out)["model_status"] == "untrained"


def test_flagged_prints_urgent_first_as_json_and_as_csv(incoming, capsys):
    (incoming.parent / "hipedge.toml").write_text(
        "[thresholds]\nosteoarthritis = 0.0\nfemoral_neck_fracture = 0.13"
    )
    run("screen", incoming, "--hips", "hips.csv")
    capsys.readouterr()
    run("flagged", "--json")
    found = json.loads(capsys.readouterr().out)
    priorities = [hip["priority"] for hip in found["flagged"]]
    assert len(priorities) == 4
    assert priorities == sorted(priorities, reverse=True)  # urgent, then routine
    run("flagged", "--csv")
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["priority"] for row in table if row["list"] == "flagged"] == priorities
    assert all(float(row["p_normal"]) >= 0 for row in table if row["list"] == "flagged")


def test_new_thresholds_change_what_is_flagged_without_screening_again(incoming, capsys):
    run("screen", incoming, "--hips", "hips.csv")
    for threshold, expected in ((0.0, 4), (1.0, 0)):
        lines = [f"{name} = {threshold}" for name in ("osteoarthritis",)]
        others = ("femoral_head_osteonecrosis", "femoral_neck_fracture", "developmental_dysplasia",
                  "intertrochanteric_fracture")  # fmt: skip
        lines += [f"{name} = 1.0" for name in others]
        Path("hipedge.toml").write_text("\n".join(["[thresholds]", *lines]))
        capsys.readouterr()
        run("flagged", "--json")
        found = json.loads(capsys.readouterr().out)["flagged"]
        assert sum("osteoarthritis" in hip["flagged_for"] for hip in found) == expected
    assert rows("hipedge.db", "select count(*) from hips") == [(4,)]


def test_what_was_not_read_is_listed_as_work_and_not_as_a_negative(incoming, capsys):
    (incoming / "broken.dcm").write_text("this was a radiograph once")
    (incoming / "empty.dcm").touch()
    run("screen", incoming, "--hips", "hips.csv")
    summary = capsys.readouterr().out
    assert "not_an_image" in summary
    assert "empty_file" in summary
    run("flagged", "--json")
    not_read = json.loads(capsys.readouterr().out)["not_read"]
    assert {(Path(case["path"]).name, case["code"]) for case in not_read} == {
        ("broken.dcm", "not_an_image"),
        ("empty.dcm", "empty_file"),
    }
    run("flagged")
    assert "a human must look" in capsys.readouterr().out


@pytest.mark.parametrize(
    "commands",
    [[["flagged"]], [["flagged", "--csv"]], [["show", "1"], ["show", "2"], ["show", "3"]]],
)
def test_no_name_of_a_file_keeps_a_list_from_being_printed_or_forges_it(
    ill_named, monkeypatch, commands
):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    done = [hipedge(*command) for command in commands]
    assert [process.stderr for process in done if process.returncode] == []
    said = "".join(process.stdout for process in done)
    for name in (r"M\udcfcller.dcm", r"x\x1b[2J\x1b[1A\n\u202e.dcm", "[red] [bold].dcm"):
        assert name in said
    assert [
        character for character in said if character != "\n" and not character.isprintable()
    ] == []


def test_an_error_that_names_a_path_is_printable_too(site, capsys):
    assert run("screen", "gone\x1b[2J[red]\udcfc") == 2
    assert r"gone\x1b[2J[red]\udcfc" in capsys.readouterr().err


def test_show_draws_boxes_and_heat_over_the_film(incoming, capsys):
    run("screen", incoming, "--hips", "hips.csv")
    assert run("show", incoming / "film0.png", "-o", "case.png") == 0
    assert Path("case.png").stat().st_mode & 0o777 == 0o600
    picture = np.asarray(Image.open("case.png").convert("RGB")).astype(int)
    spread = picture.max(axis=2) - picture.min(axis=2)  # the film is grey, what we draw is not
    film = spread[: picture.shape[0] - 80]
    assert (film > 30).mean() > 0.02
    for half in (film[:, : film.shape[1] // 2], film[:, film.shape[1] // 2 :]):
        assert (half > 30).any()


@pytest.mark.parametrize("what", ["no-such-case", "999"])
def test_show_says_that_there_is_no_such_case(incoming, capsys, what):
    run("screen", incoming, "--hips", "hips.csv")
    assert run("show", what) == 2
    assert what in capsys.readouterr().err


def test_show_refuses_a_film_that_was_changed_since(incoming, capsys):
    run("screen", incoming, "--hips", "hips.csv")
    draw_pelvis(incoming / "film0.png", seed=9)
    film = rows("hipedge.db", "select id from files where path like '%film0.png'")[0][0]
    assert run("show", film) == 2
    assert "no longer holds" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["fake", "onnxruntime", "auto"])
def test_each_backend_of_the_table_screens(incoming, backend):
    assert run("screen", incoming, "--hips", "hips.csv", "--backend", backend) == 0
    assert rows("hipedge.db", "select count(*) from hips") == [(4,)]


def test_fail_on_flag_exits_1_only_where_a_hip_is_flagged(incoming):
    Path("hipedge.toml").write_text("[thresholds]\nosteoarthritis = 0.0")
    assert run("screen", incoming, "--hips", "hips.csv") == 0
    assert run("screen", incoming, "--hips", "hips.csv", "--db", "b.db", "--fail-on-flag") == 1
    empty = incoming.parent / "nothing"
    empty.mkdir()
    assert run("screen", empty, "--db", "c.db", "--fail-on-flag") == 0


def test_settings_come_from_flags_then_environment_then_file(incoming, monkeypatch):
    Path("hipedge.toml").write_text('db = "file.db"')
    run("screen", incoming)
    assert Path("file.db").exists()
    monkeypatch.setenv("HIPEDGE_DB", "environment.db")
    run("screen", incoming)
    assert Path("environment.db").exists()
    run("screen", incoming, "--db", "flag.db")
    assert Path("flag.db").exists()


def changed_copy(model, folder):
    copy = folder / "changed"
    shutil.copytree(model, copy)
    data = bytearray((copy / "classifier.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "classifier.onnx").write_bytes(data)
    return copy


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no-such-folder"], "no such file or folder"),
        (["incoming", "--model", "incoming"], "card.json is missing"),
        (["incoming", "--model", "changed"], "not the file that its card describes"),
        (["incoming", "--backend", "quantum"], "quantum"),
        (["incoming", "--operating-point", "lucky"], "sensitive, specific"),
        (["incoming", "--hips", "none.csv"], "none.csv"),
        (["incoming", "--db", "none/cases.db"], "unable to open"),
        (["incoming", "--db", "incoming"], "unable to open"),
        (["incoming", "--config", "none.toml"], "none.toml"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_2(incoming, model, arguments, complaint):
    changed_copy(model, incoming.parent)
    done = hipedge("screen", *arguments, cwd=incoming.parent)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    db = incoming.parent / "hipedge.db"
    assert not db.exists() or not rows(db, "select 1 from runs union select 1 from files")


@pytest.mark.usefixtures("incoming")
def test_a_temporary_folder_whose_path_is_too_long_is_one_clear_line(tmp_path):
    long = tmp_path / ("long" * 25)
    long.mkdir()
    script = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from hipedge.cli import main; main(['screen', 'incoming'])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(long)], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "set TMPDIR to a folder with a short path" in done.stderr


def test_a_database_that_may_not_be_written_is_one_clear_line(incoming, model):
    run("screen", incoming, "--hips", "hips.csv")
    Path("hipedge.db").chmod(0o444)
    # Root may write anything, so the command runs as nobody, who must be let in to the model.
    for folder in {*model.parents, *incoming.parents}:
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)
    # All is imported before, by asking for help, and the fork server takes no part: nobody may not
    # read a Python in root's home.
    script = (
        "import os\n"
        "from contextlib import suppress\n"
        "from multiprocessing import forkserver\n"
        "import hipedge.cli.screen, hipedge.config, hipedge.perf.tuning\n"
        "import hipedge.backends.onnxruntime\n"
        "from hipedge.cli import main\n"
        "with suppress(SystemExit): main(['screen', '--help'])\n"
        "forkserver.ensure_running = lambda: None\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "main(['screen', 'incoming'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert "readonly" in done.stderr
    assert "Traceback" not in done.stderr


def test_before_the_first_screening_flagged_says_what_makes_the_database(site, capsys):
    assert run("flagged") == 2
    assert "hipedge screen" in capsys.readouterr().err
    assert not Path("hipedge.db").exists()


FILMS = 120


def test_ctrl_c_keeps_what_was_recorded_and_the_next_run_goes_on(site, incoming):
    # Large enough, and enough of them, that no machine is done before the signal comes; a PNG may
    # have bytes behind its end.
    large = io.BytesIO()
    Image.open(incoming / "film0.png").resize((2880, 2400)).save(large, "PNG")
    for number in range(2, FILMS):
        film = large.getvalue() + number.to_bytes(2, "big")
        (incoming / f"film{number}.png").write_bytes(film)
    command = [sys.executable, "-m", "hipedge", "screen", "incoming", "--backend", "fake"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        db = site / "hipedge.db"
        while not rows_recorded(db):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in complaint
    assert "Traceback" not in complaint
    before = rows(db, "select count(*) from files")[0][0]
    assert 0 < before < FILMS
    assert run("screen", incoming, "--backend", "fake") == 0
    assert rows(db, "select count(*) from files") == [(FILMS,)]


def test_ctrl_c_after_the_last_film_says_that_it_is_recorded(site, incoming, monkeypatch, capsys):
    close = Store.__exit__

    def interrupted(self, *error):
        close(self, *error)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "__exit__", interrupted)
    assert run("screen", incoming, "--backend", "fake") == 130
    assert "interrupted: recorded results are kept" in capsys.readouterr().err
    assert rows_recorded(site / "hipedge.db")


def rows_recorded(db):
    try:
        # To wait for a busy writer could be to wait until it is done.
        return db.exists() and rows(db, "select count(*) from files", 0.0)[0][0] > 0
    except sqlite3.OperationalError:
        return False


def test_doctor_says_what_would_run_and_what_to_do(site):
    done = hipedge("doctor")
    assert done.returncode == 0
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    cells = {row[1]: row[2:5] for row in rows if len(row) == 6 and row[1]}
    works, found, _ = cells["site: model on backend"]
    assert works == "yes"
    assert found.startswith("onnxruntime=")
    assert "provider=CPUExecutionProvider" in found
    for backend in ("tensorrt", "openvino", "onnxruntime"):
        works, _, cure = cells[f"backend: {backend}"]
        assert (works == "yes") == (cure == "")


def test_doctor_exits_1_where_screening_would_fail(site, monkeypatch, capsys):
    monkeypatch.delenv("HIPEDGE_MODEL")
    monkeypatch.setattr(packaged, "FOLDER", "none")
    assert run("doctor") == 1
    assert "hipedge model new" in re.sub(r"[\s│]+", " ", capsys.readouterr().out)


def test_model_show_prints_the_card_and_refuses_a_changed_folder(site, model, capsys):
    assert run("model", "show", model) == 0
    assert "untrained" in capsys.readouterr().out
    assert run("model", "show", changed_copy(model, site)) == 2


def test_the_version_is_printed(capsys):
    assert run("--version") == 0
    assert re.fullmatch(r"hipedge \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_the_help_of_every_command_fits_its_purpose_without_a_model_or_database(capsys):
    for command in ("screen", "flagged", "show", "model", "doctor"):
        assert run(command, "--help") == 0
        assert "Usage" in capsys.readouterr().out


def test_the_list_of_commands_says_what_their_own_help_does():
    helps = {name: command.help for name, command in get_command(app).commands.items()}
    first = {name: " ".join(text.split("\n\n")[0].split()) for name, text in helps.items()}
    assert first == COMMANDS


def test_where_a_gpu_is_required_nothing_runs_on_the_cpu(incoming, capsys):
    assert run("screen", incoming, "--require-gpu") == 2
    assert "onnxruntime runs on the CPU, and a GPU is required" in capsys.readouterr().err
    assert not Path("hipedge.db").exists()
