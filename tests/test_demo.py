"""`hipedge demo`: films to picture, without a patient and without a model of one's own."""

import importlib.util
import webbrowser

import pytest
from PIL import Image

from hipedge.cli import main
from hipedge.model import packaged
from hipedge.review import demo


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


@pytest.fixture
def installation(tmp_path, monkeypatch, untrained_model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packaged, "FOLDER", str(untrained_model.path))
    monkeypatch.setenv("HIPEDGE_BACKEND", "onnxruntime")
    monkeypatch.setenv("HIPEDGE_WORKERS", "1")
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    return tmp_path


def test_it_ends_with_the_picture_of_a_flagged_film_and_what_that_shows(
    installation, monkeypatch, capsys
):
    pytest.importorskip("numba")
    monkeypatch.setattr("hipedge.cli.demo.FILMS", 2)
    assert run("demo") == 0
    out = capsys.readouterr().out
    folder = installation / "hipedge-demo"
    assert "Summary" in out
    assert "drawn as: right " in out
    assert f"picture: {folder / 'flagged.png'}" in out
    with Image.open(folder / "flagged.png") as picture:
        assert picture.width >= 900
    assert len(list((folder / "films").glob("*.dcm"))) == 2


def test_without_the_simulator_it_says_how_to_install_it(installation, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "hipedge.cli.phantom.find_spec", lambda name: None if name == "xraylib" else find(name)
    )
    assert run("demo") == 2
    assert "pip install 'hipedge[phantom]'" in capsys.readouterr().err
    assert not list(installation.glob("hipedge-demo/films/*"))


@pytest.mark.parametrize(("display", "opened"), [(":0", 1), ("", 0)])
def test_the_picture_is_opened_where_there_is_a_display(tmp_path, monkeypatch, display, opened):
    seen = []
    monkeypatch.setattr(webbrowser, "open", lambda address: seen.append(address) or True)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert demo.open_picture(tmp_path / "a b.png") == bool(opened)
    assert seen == [(tmp_path / "a b.png").as_uri()] * opened
