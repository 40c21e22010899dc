"""The reference model: what every command takes where no other is named."""

import shutil

import pytest

from hipedge.cli import main
from hipedge.cli.console import output
from hipedge.errors import ConfigError
from hipedge.model import open_model, packaged, packaged_model, require_model
from hipedge.model.card import Status


@pytest.fixture
def shipped(untrained_model, monkeypatch):
    """An installation whose reference model is a small one."""
    monkeypatch.setattr(packaged, "FOLDER", str(untrained_model.path))
    return untrained_model


@pytest.fixture
def bare(monkeypatch):
    """An installation without a reference model."""
    monkeypatch.setattr(packaged, "FOLDER", "none")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HIPEDGE_MODEL", raising=False)
    monkeypatch.setenv("HIPEDGE_BACKEND", "onnxruntime")
    return tmp_path


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


def test_what_ships_is_a_whole_model_that_says_where_it_was_trained():
    folder = packaged_model()
    if folder is None:
        pytest.skip("no reference model in this checkout")
    card = open_model(folder).card
    assert card.status is Status.TRAINED
    assert "simulated" in card.status_text


def test_without_a_setting_the_reference_model_is_taken(shipped):
    assert require_model(None) == packaged_model() == shipped.path


def test_a_model_that_is_named_wins(shipped, tmp_path):
    assert require_model(tmp_path) == tmp_path


@pytest.mark.usefixtures("bare")
def test_an_installation_without_one_says_what_to_do():
    assert packaged_model() is None
    with pytest.raises(ConfigError, match="hipedge model new DIR --seed 0"):
        require_model(None)


def test_a_folder_without_a_card_is_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", str(tmp_path))
    assert packaged_model() is None


def test_screen_says_what_the_card_says_and_so_does_all_that_follows(
    site, shipped, shared_data, capsys
):
    shutil.copy(shared_data / "wg04/RG2_RLE.dcm", site)
    assert run("screen", site / "RG2_RLE.dcm") == 0
    assert shipped.card.status_text in capsys.readouterr().err
    for command in (["flagged"], ["show", "1"]):
        assert run(*command) == 0
        assert shipped.card.status_text in capsys.readouterr().err
    run("flagged", "--json")
    assert shipped.card.status_text in capsys.readouterr().out


@pytest.mark.usefixtures("site")
def test_doctor_names_it(shipped, monkeypatch, capsys):
    monkeypatch.setattr(output, "width", 1000)
    assert run("doctor") == 0
    assert f"untrained-0: {shipped.card.status_text}" in capsys.readouterr().out


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    "command",
    [
        ["model", "show"],
        ["export", "verify", "--backend", "onnxruntime"],
        ["benchmark", "--duration", "0", "--warm-up", "0", "--batch", "1"],
    ],
)
def test_every_command_that_takes_a_model_takes_this_one(shipped, command, capsys):
    assert run(*command) == 0
    assert capsys.readouterr().out
