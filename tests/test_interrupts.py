"""Ctrl-C ends a command that is still starting, without a traceback and for good."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.processes import heed_interrupts

# Interrupts this process some time after the command line has begun to start.
SCREEN = """
import os, signal, sys, threading
from hipedge import __main__ as entry

delay_s, *sys.argv = float(sys.argv[1]), "hipedge", *sys.argv[2:]
start_fork_server = entry._start_fork_server

def start():
    timer = threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()
    start_fork_server()

entry._start_fork_server = start
entry.main()
"""
IN_BLOCK = """
import os, signal
from hipedge.interrupts import ended_by_ctrl_c

try:
    with ended_by_ctrl_c():
        print("within", flush=True)
        {within}
    print("after", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
"""

# Whether SIGINT is blocked in a worker process, and in this one.
BLOCKED = """
import signal
from functools import partial
from hipedge import __main__ as entry
from hipedge.pipeline.workers import Workers

entry._start_fork_server()
blocked = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
with Workers(blocked, 1) as workers:
    ((_, there),) = [pair for batch in workers.run([()], lambda _: None) for pair in batch]
print("SIGINT", signal.SIGINT in there, signal.SIGINT in blocked(()))
"""


def run(*arguments, cwd=None):
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=60, preexec_fn=heed_interrupts
    )


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0])
def test_at_moments_of_the_start_of_screen(
    delay_s, backend, untrained_model, tmp_path, monkeypatch
):
    pytest.importorskip(backend)
    monkeypatch.setenv("HIPEDGE_MODEL", str(untrained_model.path))
    film = np.random.default_rng(0).integers(0, 256, (400, 480), np.uint8)
    Image.fromarray(film).save(tmp_path / "film.png")
    done = run(SCREEN, str(delay_s), "screen", "film.png", "--backend", backend, cwd=tmp_path)
    assert done.returncode in (-signal.SIGINT, 130, 0)  # 0 where it had already come to its end
    assert "Traceback" not in done.stderr


def test_within_the_block_it_ends_the_process_at_once():
    done = run(IN_BLOCK.format(within="os.kill(os.getpid(), signal.SIGINT)"))
    assert (done.returncode, done.stdout.split(), done.stderr) == (-signal.SIGINT, ["within"], "")


def test_after_the_block_it_raises_again():
    done = run(IN_BLOCK.format(within="pass"))
    assert done.stdout.split() == ["within", "after", "KeyboardInterrupt"]


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: print('handled')"])
def test_a_handler_of_somebody_else_stays(handler):
    within = f"signal.signal(signal.SIGINT, {handler})"
    with_handler = IN_BLOCK.replace("try:", f"{within}\ntry:")
    done = run(with_handler.format(within="os.kill(os.getpid(), signal.SIGINT)"))
    assert done.returncode == 0
    assert "after" in done.stdout
    assert "KeyboardInterrupt" not in done.stdout


def test_it_reaches_no_worker_process_of_the_command_line():
    done = run(BLOCKED)
    assert done.stdout.split() == ["SIGINT", "True", "False"], done.stderr
