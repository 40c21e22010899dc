"""The instructions of the Containerfile. No test builds it: that takes a registry of images."""

import re
from pathlib import Path

import dockerfile
import pytest

from hipedge.deploy.files import FILES, INCOMING, SETTINGS_FILE

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = dockerfile.parse_file(str(ROOT / "systemd/Containerfile"))


def values(name):
    return [one.value for one in INSTRUCTIONS if one.cmd == name]


def test_what_is_copied_from_the_checkout_is_there():
    copied = [one.value[:-1] for one in INSTRUCTIONS if one.cmd == "COPY" and not one.flags]
    assert copied
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("part", ["pyproject.toml", "README.md", "LICENSE", "hipedge", "systemd"])
def test_what_the_package_is_built_from_is_copied(part):
    assert part in [name for names in values("COPY") for name in names]
    script = (ROOT / "systemd/debian/build.sh").read_text()
    assert part == "systemd" or re.search(rf"[{{,]{re.escape(part)}[,}}]", script)


def test_both_stages_are_the_same_release_so_that_the_package_fits():
    first, second = values("FROM")
    assert first == (second[0], "AS", "build")


def test_the_container_runs_watch_as_the_user_and_in_the_folders_of_the_service():
    assert values("USER") == [("hipedge",)]
    after = [one.cmd for one in INSTRUCTIONS]
    assert after.index("USER") < after.index("ENTRYPOINT")
    assert values("ENTRYPOINT") == [("hipedge",)]
    assert values("CMD") == [("watch", str(INCOMING))]
    assert f"HIPEDGE_CONFIG {SETTINGS_FILE}" in " ".join(values("ENV")[0])
    (folders,) = (file for file in FILES if file.template == "hipedge.tmpfiles.conf")
    made = re.findall(r"^d (\S+)", folders.render(Path("/opt")).decode(), re.MULTILINE)
    (volumes,) = values("VOLUME")
    assert set(volumes) <= set(made)
    assert values("WORKDIR")[0][0] in made
