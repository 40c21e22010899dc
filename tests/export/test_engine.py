"""Engines, built for real by TensorRT for RTX on the CPU. None is run: that needs a GPU."""

import json
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hipedge.backends.tensorrt.engine_cache import (
    RTX_CAPABILITIES,
    Device,
    Profile,
    Sidecar,
    engine_path,
    engines_folder,
    find_engine,
    sidecar_of,
    write_engine,
)
from hipedge.backends.tensorrt.flavours import FLAVOURS, choose_flavour, load
from hipedge.errors import BackendError, ConfigError, InstallationError, ModelError
from hipedge.export.engine import Recipe, build, export_engine
from hipedge.export.timing_cache import read_timing_cache, write_timing_cache
from hipedge.model.card import CLASSIFIER
from tests.export.bindings import ROOT, rtx_libraries, run_with
from tests.processes import heed_interrupts

RTX = FLAVOURS["rtx"]


@pytest.fixture(scope="module")
def rtx():
    rtx_libraries()
    return load(RTX)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HIPEDGE_ENGINES", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def built(rtx, reference_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "one.engine"
    return export_engine(reference_model, Recipe(RTX), device=None, output=path)


def validity(rtx, data):
    """What the runtime says of an engine: whether it is malformed, which needs no GPU to see."""
    runtime = rtx.Runtime(rtx.Logger(rtx.Logger.INTERNAL_ERROR))
    _, diagnostics = runtime.get_engine_validity(data)
    return bool(diagnostics & int(rtx.EngineInvalidityDiagnostics.MALFORMED_ENGINE))


def test_an_engine_is_built_and_can_be_read_back_as_far_as_a_cpu_goes(rtx, built, reference_model):
    data = built.path.read_bytes()
    # Every weight is in it, in half precision as in the ONNX file.
    onnx_bytes = reference_model.classifier.stat().st_size
    assert onnx_bytes * 0.95 < len(data) < onnx_bytes * 1.5
    assert not validity(rtx, data)
    assert validity(rtx, b"x" * len(data))


def test_the_sidecar_says_what_the_engine_is(rtx, built, reference_model):
    content = json.loads(sidecar_of(built.path).read_text())
    assert content["key"] == {
        "onnx_sha256": reference_model.card.files[CLASSIFIER],
        "flavour": "rtx",
        "version": rtx.__version__,
        "device": None,
        "targets": [],
        "precision": "fp16",
        "profile": {"least": 1, "best": 8, "most": 32},
        "lean": False,
    }
    assert content["model_id"] == reference_model.model_id
    assert content["engine_bytes"] == built.path.stat().st_size
    assert content["build_s"] > 0
    assert content["verified"] == {}
    assert Sidecar.read(sidecar_of(built.path)) == built.sidecar


def test_what_is_there_is_not_built_again(built, reference_model):
    again = export_engine(reference_model, Recipe(RTX), device=None, output=built.path)
    assert not again.built
    assert again.sidecar == built.sidecar


def test_another_optimization_level_is_built_and_kept(rtx, folder, reference_model):
    levels = (3, None, 3, 1, 1)
    made = [
        export_engine(reference_model, Recipe(RTX, optimization_level=level), device=None)
        for level in levels
    ]
    assert [one.built for one in made] == [True, False, False, True, False]
    assert [one.sidecar.optimization_level for one in made] == [3, 3, 3, 1, 1]
    assert len(list(folder.glob("*.engine"))) == 1


def test_force_builds_it_again(built, reference_model):
    again = export_engine(reference_model, Recipe(RTX), device=None, output=built.path, force=True)
    assert again.built
    assert sorted(p.name for p in built.path.parent.iterdir()) == [
        *("one.engine", "one.engine.json", "one.engine.lock")
    ]


def test_an_engine_in_the_cache_is_found_by_model_version_and_device(rtx, folder, reference_model):
    made = export_engine(reference_model, Recipe(RTX, targets=("8.6", "12.0")), device=None)
    wanted = {
        "onnx_sha256": reference_model.card.files[CLASSIFIER],
        "flavour": "rtx",
        "version": rtx.__version__,
        "cure": "build it",
    }
    assert made.path.parent == engines_folder() == folder
    assert find_engine(folder, device=Device("RTX 5090", (12, 0), 170), **wanted) == made.path
    with pytest.raises(BackendError, match=r"on compute capability 8.6, 12.0, and this is .*8.9"):
        find_engine(folder, device=Device("RTX 4090", (8, 9), 128), **wanted)


@pytest.fixture
def of_model(reference_model):
    """What an engine of the reference model is sought by."""
    return {
        "onnx_sha256": reference_model.card.files[CLASSIFIER],
        "flavour": "rtx",
        "version": "1.7",
        "device": Device("RTX 4090", (8, 9), 128),
        "cure": "build it",
    }


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 2}'])
def test_an_unreadable_sidecar_hides_no_other_engine(folder, of_model, built, content, caplog):
    key = replace(built.sidecar.key, version="1.7")
    write_engine(folder / "good.engine", b"engine", replace(built.sidecar, key=key))
    (folder / "bad.engine.json").write_bytes(content)
    assert find_engine(folder, **of_model) == folder / "good.engine"
    assert "bad.engine.json does not describe an engine" in caplog.text


def test_unreadable_sidecars_are_named_where_no_engine_fits(folder, of_model):
    (folder / "bad.engine.json").write_bytes(b"{}")
    with pytest.raises(BackendError, match=r": build it; not readable here: bad\.engine\.json"):
        find_engine(folder, **of_model)


def test_a_sidecar_that_vanishes_is_no_error(folder, of_model):
    """As while another process replaces its engine: the name was listed, and is gone."""
    (folder / "gone.engine.json").symlink_to(folder / "nothing")
    with pytest.raises(BackendError, match="no engine of this model"):
        find_engine(folder, **of_model)


def test_an_engine_for_no_target_is_for_all_since_ampere(built):
    assert built.sidecar.key.runs_on(Device("RTX 3090", (8, 6), 82))
    assert built.sidecar.key.runs_on(Device("RTX 5090", (12, 0), 170))
    assert not built.sidecar.key.runs_on(Device("RTX 2080", (7, 5), 46))
    assert not built.sidecar.key.runs_on(Device("Orin", (8, 7), 16))
    assert not built.sidecar.key.runs_on(Device("H200", (9, 0), 132))
    assert built.sidecar.key.made_for == "compute capability 8.0, 8.6, 8.9, 12.0, 12.1"


def test_the_gpus_that_rtx_supports_are_those_of_its_bindings(rtx):
    names = rtx.ComputeCapability.__members__
    found = {name.removeprefix("SM") for name in names if name.startswith("SM")}
    assert found == {f"{major}{minor}" for major, minor in RTX_CAPABILITIES}


@pytest.mark.parametrize("is_old", [True, False], ids=["nullptr", "an object of nothing"])
def test_a_builder_that_cannot_be_initialised_is_a_backend_error(
    rtx, reference_model, tmp_path, monkeypatch, is_old
):

    def construct(logger):
        if is_old:
            raise TypeError("factory function returned nullptr")
        logger.log(rtx.ILogger.ERROR, "CUDA initialization failure with error: 35")
        return SimpleNamespace(create_network=os.abort)

    monkeypatch.setattr(rtx, "Builder", construct)
    with pytest.raises(BackendError, match=r"cannot build .*: .*(nullptr|with error: 35)"):
        export_engine(reference_model, Recipe(RTX), device=None, output=tmp_path / "a.engine")


def test_each_target_and_profile_has_an_engine_of_its_own(rtx, folder, reference_model):
    recipes = [Recipe(RTX), Recipe(RTX, targets=("8.9",)), Recipe(RTX, profile=Profile(1, 1, 4))]
    paths = {export_engine(reference_model, one, device=None).path for one in recipes}
    assert len(paths) == 3


def test_a_target_that_cannot_be_built_for_is_an_error(rtx, folder, reference_model):
    with pytest.raises(ConfigError, match=r"cannot build for compute capability '8\.7'"):
        export_engine(reference_model, Recipe(RTX, targets=("8.7",)), device=None)
    assert list(folder.glob("*.engine*")) == [next(folder.glob("*.lock"))]


@pytest.mark.parametrize("target", ["86", "nine", "8.6\n", "sm_86"])
def test_a_target_that_no_gpu_would_be_found_under_is_an_error(target):
    with pytest.raises(ConfigError, match=r"is not a compute capability such as 8\.6"):
        Recipe(RTX, targets=(target,))


@pytest.mark.parametrize("name", ["x.plan", "engine"])
def test_an_engine_is_not_written_where_it_would_not_be_found(reference_model, tmp_path, name):
    with pytest.raises(ConfigError, match=r"use a name that ends in \.engine"):
        export_engine(reference_model, Recipe(RTX), device=None, output=tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["St Mary/hips", "../../evil", "/etc/evil", "..", "髋关节", "x" * 300, "a\0b\n"]
)
def test_an_engine_lies_in_its_folder_whatever_the_model_is_called(built, tmp_path, name):
    path = engine_path(tmp_path, name, built.sidecar.key)
    assert path.parent == tmp_path
    path.with_name(f".{path.name}.json.01234567").touch()
    assert list(tmp_path.glob("[!.]*.engine")) == []
    path.touch()
    assert list(tmp_path.glob("[!.]*.engine")) == [path]


def test_what_a_flavour_cannot_do_is_an_error():
    with pytest.raises(ConfigError, match="--target is for flavour rtx"):
        Recipe(FLAVOURS["tensorrt"], targets=("8.6",))
    with pytest.raises(ConfigError, match="RTX has no timing cache"):
        Recipe(RTX, timing_cache="cache")


def test_the_lean_runtime_builds_nothing():
    with pytest.raises(ConfigError, match="builds no engine: use --flavour tensorrt --lean"):
        Recipe(FLAVOURS["lean"])
    with pytest.raises(ConfigError, match="use --flavour tensorrt"):
        Recipe(RTX, lean=True)


def test_no_call_that_is_deprecated_is_made(rtx, reference_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe = Recipe(RTX, targets=("8.6",), optimization_level=3)
        build(
            reference_model.classifier,
            reference_model.card.input.size_px,
            recipe,
            rtx,
            lambda *_: None,
        )


@pytest.fixture
def configs(rtx, monkeypatch):
    """The configurations of the builds of a test."""
    made, create = [], rtx.Builder.create_builder_config
    monkeypatch.setattr(
        rtx.Builder, "create_builder_config", lambda one: made.append(create(one)) or made[-1]
    )
    return made


def test_layers_in_single_precision_are_computed_in_single_precision(rtx, untrained_model, configs):
    """TF32, which TensorRT allows by default, has the mantissa of half precision."""
    build(untrained_model.classifier, 64, Recipe(RTX), rtx, lambda *_: None)
    (config,) = configs
    assert not config.get_flag(rtx.BuilderFlag.TF32)
    assert not config.get_flag(rtx.BuilderFlag.VERSION_COMPATIBLE)


def test_an_engine_for_the_lean_runtime_is_built_for_later_versions_and_without_code(
    rtx, untrained_model, configs
):
    recipe = Recipe(FLAVOURS["tensorrt"], lean=True)
    build(untrained_model.classifier, 64, recipe, rtx, lambda *_: None)
    (config,) = configs
    assert config.get_flag(rtx.BuilderFlag.VERSION_COMPATIBLE)
    assert config.get_flag(rtx.BuilderFlag.EXCLUDE_LEAN_RUNTIME)


def test_progress_counts_the_steps_of_each_phase(rtx, reference_model):
    seen = []
    build(
        reference_model.classifier,
        reference_model.card.input.size_px,
        Recipe(RTX),
        rtx,
        lambda *step: seen.append(step),
    )
    assert seen[0][:2] == ("Building engine", 0)
    assert len({phase for phase, _, _ in seen}) > 3
    assert all(0 <= done <= total for _, done, total in seen)
    phase, done, total = seen[-1]
    assert phase == "Building engine"
    assert done == total


def test_an_interrupt_stops_the_build_and_leaves_no_engine(rtx, folder, reference_model):
    def interrupt(phase, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_engine(reference_model, Recipe(RTX), device=None, progress=interrupt)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


INTERRUPTED = """
import os, signal, sys, threading
from pathlib import Path
from hipedge.export.engine import Recipe, export_engine
from hipedge.backends.tensorrt.flavours import FLAVOURS, load
from hipedge.model import open_model

model = open_model(Path(sys.argv[1]))
load(FLAVOURS["rtx"])
for delay_s in (0.02, 0.1, 0.2, 0.35):
    ctrl_c = threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT))
    started = []

    def progress(phase, done, total):
        if not started:
            ctrl_c.start()
        started.append(phase)

    try:
        export_engine(model, Recipe(FLAVOURS["rtx"]), device=None, progress=progress)
        print("built")
    except BaseException as error:
        print(type(error).__name__)
    ctrl_c.join()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_ctrl_c_stops_the_build_whatever_tensorrt_is_at(rtx, folder, untrained_model):
    """A signal that comes while TensorRT computes is raised as its next callback starts.

    The untrained ResNet-50 takes long enough to build; the reference model may be done before.
    """
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, untrained_model.path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=heed_interrupts,
    )
    assert done.stdout.split() == ["KeyboardInterrupt"] * 4 + ["True"], done.stderr
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def test_a_build_in_another_thread_leaves_signals_alone(rtx, folder, reference_model):
    made = []
    thread = threading.Thread(
        target=lambda: made.append(export_engine(reference_model, Recipe(RTX), device=None))
    )
    thread.start()
    thread.join()
    assert made[0].built


def test_a_parser_error_names_the_node(rtx, tmp_path):
    helper = pytest.importorskip("onnx.helper", reason="onnx writes the bad file")
    float32 = 1
    nodes = [
        helper.make_node("Relu", ["pixels"], ["a"], name="first"),
        helper.make_node("NoSuchThing", ["a"], ["logits"], name="the_bad_node"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("pixels", float32, ["N", 1])],
        [helper.make_tensor_value_info("logits", float32, ["N", 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    path = tmp_path / "bad.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"node 'the_bad_node' \(NoSuchThing\): creator"):
        build(path, 64, Recipe(RTX), rtx, lambda *_: None)


def test_a_file_that_is_no_network_is_an_error(rtx, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(ModelError, match=r"cannot read .*bad.onnx: .*parse the ONNX model"):
        build(path, 64, Recipe(RTX), rtx, lambda *_: None)


def test_a_network_with_other_tensors_is_an_error(rtx, tmp_path):
    helper = pytest.importorskip("onnx.helper", reason="onnx writes the other file")
    float32 = 1
    graph = helper.make_graph(
        [helper.make_node("Relu", ["pixels"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("pixels", float32, ["N", 1])],
        [helper.make_tensor_value_info("logits", float32, ["N", 1])],
    )
    path = tmp_path / "other.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="lacks the tensors of a hipedge classifier"):
        build(path, 64, Recipe(RTX), rtx, lambda *_: None)


def test_two_processes_that_build_at_once_make_one_engine(rtx, folder, reference_model):
    script = (
        "from pathlib import Path\n"
        "from hipedge.export.engine import Recipe, export_engine\n"
        "from hipedge.backends.tensorrt.flavours import FLAVOURS\n"
        "from hipedge.model import open_model\n"
        f"model = open_model(Path({str(reference_model.path)!r}))\n"
        "print(export_engine(model, Recipe(FLAVOURS['rtx']), device=None).built)\n"
    )
    command = [sys.executable, "-c", script]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = sorted(process.communicate()[0].strip() for process in processes)
    assert said == ["False", "True"]
    assert len(list(folder.glob("*.engine"))) == 1


def test_an_engine_of_another_kind_is_not_written_over(built, reference_model):
    other = Recipe(RTX, profile=Profile(1, 1, 1))
    with pytest.raises(BackendError, match="with another key: --force replaces it"):
        export_engine(reference_model, other, device=None, output=built.path)


def test_a_folder_that_cannot_be_written_is_an_error(rtx, reference_model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BackendError, match="cannot be written"):
        export_engine(
            reference_model, Recipe(RTX), device=None, output=tmp_path / "file" / "x.engine"
        )


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 2}'])
def test_a_sidecar_that_is_none_is_an_error_with_the_cure(tmp_path, content):
    (tmp_path / "one.engine.json").write_bytes(content)
    with pytest.raises(BackendError, match="does not describe an engine: build the engine again"):
        Sidecar.read(tmp_path / "one.engine.json")


@pytest.mark.parametrize("text", ["8", "1:8", "0:1:2", "8:1:32", "a:b:c", "1:8:32:64"])
def test_a_profile_is_three_rising_sizes(text):
    with pytest.raises(ConfigError, match="LEAST:BEST:MOST"):
        Profile.parse(text)


def test_an_unknown_flavour_is_an_error():
    with pytest.raises(ConfigError, match="choose auto, tensorrt, rtx, lean"):
        choose_flavour("dispatch")


def test_a_flavour_that_is_not_installed_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(InstallationError, match=r"pip install 'hipedge\[tensorrt-cu13\]'"):
        load(FLAVOURS["tensorrt"])


BUILD_TWICE = """
import logging, sys
from pathlib import Path
from hipedge.export.engine import Recipe, export_engine
from hipedge.backends.tensorrt.flavours import FLAVOURS
from hipedge.model import open_model

logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
model, cache = open_model(Path(sys.argv[1] if len(sys.argv) > 1 else {model!r})), Path({cache!r})
recipe = Recipe(FLAVOURS["tensorrt"], timing_cache=cache, optimization_level=1)
for _ in range(2):
    made = export_engine(model, recipe, device="no GPU", force=True)
    print(made.built, made.sidecar.key.version, made.sidecar.engine_bytes, cache.stat().st_size)
"""


def test_the_tensorrt_flavour_builds_and_rebuilds_from_its_timing_cache(
    rtx, folder, reference_model, tmp_path
):
    libraries = tmp_path / "stand-ins"
    libraries.mkdir()
    script = BUILD_TWICE.format(model=str(reference_model.path), cache=str(folder / "timings"))
    first, second = (line.split() for line in run_with("11.4", script, libraries).splitlines())
    assert first[:2] == second[:2] == ["True", "11.4.0.106"]
    assert int(first[2]) > 0.95 * reference_model.classifier.stat().st_size
    assert int(first[3]) > 0


NOT_KEPT = """
import logging, sys
from pathlib import Path
from hipedge.export.engine import Recipe, export_engine
from hipedge.backends.tensorrt.flavours import FLAVOURS
from hipedge.model import open_model

logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
model, cache = open_model(Path({model!r})), Path({cache!r})
recipe = Recipe(FLAVOURS["tensorrt"], timing_cache=cache, optimization_level=1)
print(export_engine(model, recipe, device="no GPU").built)
"""


def test_timings_that_cannot_be_kept_cost_no_engine(rtx, folder, reference_model, tmp_path):
    libraries = tmp_path / "stand-ins"
    libraries.mkdir()
    cache = folder / "no such folder" / "timings"
    script = NOT_KEPT.format(model=str(reference_model.path), cache=str(cache))
    said = run_with("11.4", script, libraries).splitlines()
    assert said[-1] == "True"
    assert any("the timings are not saved" in line for line in said)
    assert len(list(folder.glob("*.engine"))) == 1


class Config:
    """A builder's configuration that takes timing caches of nothing alone.

    `makes_none` as TensorRT does of a damaged file, and else refuses as for another device's.
    """

    def __init__(self, *, makes_none):
        self.makes_none, self.cache = makes_none, None

    def create_timing_cache(self, data):
        return None if data and self.makes_none else SimpleNamespace(data=data)

    def set_timing_cache(self, cache, *, ignore_mismatch):
        if cache is None:
            raise TypeError("incompatible function arguments")
        if cache.data:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


@pytest.mark.parametrize("makes_none", [True, False])
def test_a_timing_cache_that_is_refused_is_made_anew(tmp_path, makes_none, caplog):
    path = tmp_path / "timings"
    path.write_bytes(b"of another device")
    config = Config(makes_none=makes_none)
    read_timing_cache(config, path)
    assert config.cache.data == b""
    assert "it is replaced" in caplog.text
    config.cache.serialize = lambda: b"timings"
    write_timing_cache(config, path)
    assert path.read_bytes() == b"timings"


def test_where_tensorrt_gives_no_timings_none_are_written(tmp_path):
    config = Config(makes_none=False)
    write_timing_cache(config, tmp_path / "timings")
    config.cache = SimpleNamespace(serialize=lambda: None)
    write_timing_cache(config, tmp_path / "timings")
    assert list(tmp_path.iterdir()) == []


def test_a_timing_cache_that_cannot_be_read_is_an_error_before_the_build(tmp_path):
    with pytest.raises(ConfigError, match=r"timing cache .* cannot be read: Is a directory"):
        read_timing_cache(Config(makes_none=False), tmp_path)
