"""Which engine of the cache is chosen, and what tells engines apart."""

from dataclasses import replace

import pytest

from hipedge.backends.tensorrt.engine_cache import (
    Device,
    EngineKey,
    Profile,
    Sidecar,
    engine_path,
    find_engine,
    sidecar_of,
    write_engine,
)
from hipedge.errors import BackendError, ConfigError
from tests.builders import sha

GPU = Device("Test GPU", (8, 9), 46)
KEY = EngineKey(sha("model"), "tensorrt", "10.3.0", str(GPU), (), "fp16", Profile(1, 8, 32))


def engine(folder, name, built="2026-01-01T00:00:00+00:00", **key):
    path = folder / f"{name}.engine"
    sidecar = Sidecar(
        key=replace(KEY, **key),
        engine_sha256=sha(name),
        engine_bytes=len(name),
        model_id=sha("card"),
        model_name="model",
        hipedge="0.1.0",
        built=built,
        build_s=1.0,
        optimization_level=None,
    )
    write_engine(path, name.encode(), sidecar)
    return path


def find(folder, device=GPU):
    return find_engine(
        folder,
        onnx_sha256=KEY.onnx_sha256,
        flavour="tensorrt",
        version="10.3.0",
        device=device,
        cure="build one",
    )


def test_of_several_engines_that_fit_the_newest_is_taken(tmp_path):
    engine(tmp_path, "a", built="2026-01-02T00:00:00+00:00")
    newest = engine(tmp_path, "b", built="2026-01-03T00:00:00+00:00")
    engine(tmp_path, "c", built="2026-01-01T00:00:00+00:00")
    assert find(tmp_path) == newest


@pytest.mark.parametrize(
    "other",
    [
        {"onnx_sha256": sha("another model")},
        {"flavour": "rtx", "device": None},
        {"version": "10.4.0"},
        {"device": "Other GPU (8.9)"},
    ],
)
def test_a_newer_engine_that_does_not_fit_is_passed_over(tmp_path, other):
    fitting = engine(tmp_path, "a")
    engine(tmp_path, "b", built="2027-01-01T00:00:00+00:00", **other)
    assert find(tmp_path) == fitting


@pytest.mark.parametrize(
    ("flavour", "version", "runs"),
    [
        ("lean", "11.4.0.106", True),
        ("lean", "11.10.0.1", True),
        ("lean", "11.4.0.106.post1", True),
        ("lean", "11.3.9.9", False),
        ("lean", "12.0.0.1", False),
        ("tensorrt", "11.4.0.106", False),
    ],
)
def test_a_lean_engine_is_for_the_lean_runtime_of_its_major_version(flavour, version, runs):
    key = replace(KEY, version="11.4.0.106", lean=True)
    assert key.runs_with(flavour, version) is runs


def test_no_other_engine_is_for_the_lean_runtime():
    assert not KEY.runs_with("lean", KEY.version)


def test_the_error_describes_the_newest_engine_and_names_the_unreadable(tmp_path):
    engine(tmp_path, "a", version="9.0.0", built="2025-01-01T00:00:00+00:00")
    engine(tmp_path, "b", version="9.9.9", built="2026-01-01T00:00:00+00:00")
    sidecar_of(tmp_path / "c.engine").write_text("{}")
    with pytest.raises(BackendError, match=r"9\.9\.9 on Test GPU.*not readable here: c\.engine"):
        find(tmp_path)


def test_an_unreadable_engine_keeps_no_other_from_use(tmp_path):
    fitting = engine(tmp_path, "b")
    sidecar_of(tmp_path / "a.engine").write_text("[]")
    assert find(tmp_path) == fitting


@pytest.mark.parametrize(
    "change",
    [
        {"onnx_sha256": sha("another model")},
        {"flavour": "rtx"},
        {"version": "10.4.0"},
        {"device": None},
        {"targets": ("8.9",)},
        {"precision": "fp32"},
        {"profile": Profile(1, 8, 16)},
        {"lean": True},
    ],
)
def test_engines_that_differ_in_anything_have_places_of_their_own(tmp_path, change):
    places = {engine_path(tmp_path, "model", key) for key in (KEY, replace(KEY, **change))}
    assert len(places) == 2
    assert engine_path(tmp_path, "model", KEY) in {
        engine_path(tmp_path, "model", replace(KEY)),
    }


@pytest.mark.parametrize("text", ["1:8:32", "1:1:1", "4:4:8"])
def test_batch_sizes_are_read(text):
    assert str(Profile.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["0:1:2", "2:1:3", "1:3:2", "1:2", "1:2:3:4", "a:b:c", "1:-2:3", ""]
)
def test_batch_sizes_that_do_not_rise_from_one_are_refused(text):
    with pytest.raises(ConfigError, match="LEAST:BEST:MOST"):
        Profile.parse(text)


def test_a_proof_counts_for_the_model_that_it_was_made_with(tmp_path):
    sidecar = Sidecar.read(sidecar_of(engine(tmp_path, "a")))
    proofs = {"one GPU": {"model_id": "x"}, "other GPU": {"model_id": "y"}, "old": {}}
    proved = replace(sidecar, verified=proofs)
    assert proved.devices_verified("x") == ("one GPU",)
    assert proved.devices_verified("z") == ()
