"""A signed model: the commands of docs/training.md, run as they stand there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hipedge.errors import ModelError
from hipedge.model import open_model

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def documented(name):
    """The commands after a comment of the page; `hipedge` itself is not run."""
    text = PAGE.read_text("utf-8")
    (block,) = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", text, re.DOTALL)
    return "\n".join(line for line in block.splitlines() if not line.startswith("hipedge"))


def run(name, folder):
    command = ["bash", "-euc", documented(name)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def signed(reference_model, tmp_path):
    """A folder with a signed copy of a model."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen: apt-get install openssh-client")
    shutil.copytree(reference_model.path, tmp_path / "model")
    done = run("sign", tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_a_signed_model_is_verified_and_can_be_opened(signed, reference_model):
    done = run("verify", signed)
    assert (done.returncode, done.stdout[:4]) == (0, "Good")
    assert open_model(signed / "model").model_id == reference_model.model_id


def test_a_card_that_was_changed_is_not_verified(signed):
    card = signed / "model" / "card.json"
    card.write_bytes(card.read_bytes().replace(b"hipedge-reference", b"hipedge-other"))
    assert run("verify", signed).returncode != 0


def test_another_file_that_was_changed_is_not_opened(signed):
    """Its signature is good, since the card is the same."""
    classifier = signed / "model" / "classifier.onnx"
    classifier.write_bytes(classifier.read_bytes() + b"\0")
    assert run("verify", signed).returncode == 0
    with pytest.raises(ModelError):
        open_model(signed / "model")
