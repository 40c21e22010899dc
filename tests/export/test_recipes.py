"""The recipes of `export/`: what they print, and how far they go without a GPU."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hipedge.backends.tensorrt.engine_cache import Sidecar, sidecar_of
from tests.export.bindings import rtx_libraries

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.name for path in (ROOT / "export").glob("*.sh") if path.stem != "recipe")
SCRIPTS = [*(f"export/{name}" for name in [*RECIPES, "recipe.sh"]), ".ci/run", ".ci/release"]
SCRIPTS.append("tests/backends/build_pycuda.sh")


def recipe(name, *arguments, **environment):
    return subprocess.run(
        [ROOT / "export" / name, *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_has_nothing_to_say(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck: apt-get install shellcheck")
    done = subprocess.run(["shellcheck", "-x", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("name", RECIPES)
def test_a_dry_run_prints_commands_that_hipedge_has(name):
    """It runs none: there is neither `hipedge` nor `pip` on its PATH."""
    done = recipe(name, "--dry-run", "./my model")
    assert (done.returncode, done.stderr) == (0, "")
    commands = [shlex.split(line.removeprefix("+ ")) for line in done.stdout.splitlines()]
    reference = (ROOT / "docs" / "cli.md").read_text("utf-8")
    ours = [command[1:] for command in commands if command[0] == "hipedge"]
    assert ["export", "engine", "./my model"] in [command[:3] for command in ours]
    for command in ours:
        name = " ".join(command[:2] if command[0] == "export" else command[:1])
        section = reference.split(f"## hipedge {name}\n")[1].split("\n## ")[0]
        for option in command:
            assert not option.startswith("-") or re.search(rf"`[^`]*{option}\b", section), option


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_has_a_page_that_names_it_and_is_in_the_list(name):
    page = name.replace(".sh", ".md")
    assert name in (ROOT / "export" / page).read_text("utf-8")
    assert f"({page})" in (ROOT / "export" / "README.md").read_text("utf-8")


def test_an_unknown_option_is_an_error():
    done = recipe("rtx-pc.sh", "--dryrun")
    assert done.returncode == 2
    assert "usage: " in done.stderr


def test_the_recipe_for_rtx_builds_an_engine_without_a_gpu(reference_model, tmp_path):
    rtx_libraries()
    environment = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    done = recipe(
        "rtx-pc.sh",
        "--build-only",
        reference_model.path,
        **environment,
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        HIPEDGE_ENGINES=str(tmp_path),
        PIP_NO_INDEX="1",  # hipedge and all that it needs are installed
    )
    assert done.returncode == 0, done.stderr
    (engine,) = tmp_path.glob("*.engine")
    assert Sidecar.read(sidecar_of(engine)).key.flavour == "rtx"
    assert "+ hipedge export verify" not in done.stdout
