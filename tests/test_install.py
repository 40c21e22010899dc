"""The wheel, in clean environments: what a clinic gets, on every Python that is promised."""

import os
import shutil
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

import hipedge

ROOT = Path(__file__).parents[1]
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "pydicom-data")
# What runs without an extra, against an installed package.
CORE_TESTS = (
    "dicom",
    "store",
    "backends",
    "locate",
    "model/test_card.py",
    "model/test_folder.py",
    "test_config.py",
    "rules",
    "imaging",
    "pipeline/test_discover.py",
    "pipeline/test_workers.py",
    "test_cli.py",
)


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: building leaves traces beside the source.
    source = folder / "source"
    tracked = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


def clean_environment(folder, python, *packages):
    run(python, "-m", "venv", folder)
    run(folder / "bin/pip", "install", "-q", *packages)
    return folder / "bin"


def interpreter(version):
    """A Python of this version: on the path, or one of pyenv's."""
    on_path = shutil.which(f"python{version}")
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for python in [*([on_path] if on_path else []), *pyenv]:
        asked = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
        if asked.stdout.startswith(f"Python {version}."):
            return python
    pytest.skip(f"no Python {version} here")


def outside(folder):
    """An environment that knows nothing of the checkout."""
    hidden = ("PYTHONPATH", "HIPEDGE_MODEL", "HIPEDGE_DB", "HIPEDGE_CONFIG")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {"env": kept, "cwd": folder}


def test_the_wheel_names_its_licences_with_their_texts_and_a_security_contact(wheel):
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        fields = message_from_bytes(archive.read(metadata))
        folder = metadata.removesuffix("METADATA") + "licenses/"
        texts = [archive.read(folder + name).decode() for name in fields.get_all("License-File")]
    assert fields["License-Expression"] == "Apache-2.0 AND MPL-2.0"
    for title in ("Apache License", "Mozilla Public License Version 2.0"):
        assert any(title in text for text in texts)
    urls = dict(value.split(", ") for value in fields.get_all("Project-URL"))
    assert f"]({urls['Security']})" in (ROOT / "SECURITY.md").read_text("utf-8")
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(urls)
    assert f"## {fields['Version']} " in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert fields["Version"] == hipedge.__version__


@pytest.mark.timeout(600)
def test_a_wheel_without_extras_screens_a_real_film(wheel, shared_data, tmp_path):
    binaries = clean_environment(tmp_path / "clean", sys.executable, wheel)
    packages = run(binaries / "pip", "list")
    for absent in ("torch", "scipy", "numba", "openvino"):
        assert f"\n{absent} " not in packages
    film = shared_data / "wg04/RG2_RLE.dcm"
    place = outside(tmp_path)
    assert "screened" in run(binaries / "hipedge", "screen", film, "--db", "cases.db", **place)
    assert "RG2_RLE.dcm" in run(binaries / "hipedge", "flagged", "--db", "cases.db", **place)
    run(binaries / "hipedge", "show", "1", "--db", "cases.db", "-o", "case.png", **place)
    assert (tmp_path / "case.png").stat().st_size > 50_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_core_passes_its_tests_on(version, wheel, untrained_model, tmp_path):
    python = interpreter(version)
    binaries = clean_environment(tmp_path / "clean", python, wheel, *TEST_TOOLS)
    shutil.copytree(ROOT / "tests", tmp_path / "elsewhere/tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "elsewhere")
    place = outside(tmp_path / "elsewhere")
    place["env"]["HIPEDGE_TEST_MODEL"] = str(untrained_model.path)
    place["env"].setdefault("HIPEDGE_SHARED_DATA", str(ROOT.parent / "shared/data"))
    tests = [f"tests/{name}" for name in CORE_TESTS]
    assert " passed" in run(binaries / "python", "-m", "pytest", "-q", *tests, **place)
