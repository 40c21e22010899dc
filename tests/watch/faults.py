"""Faults that are injected into the service's process by replacing functions."""

import functools
import os
import signal
import time


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def replace(owner, name, make):
    """Replace a function by `make(original)`."""
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(make(original)))


def before(owner, name, act):
    """Call `act` before each call of a function."""

    def make(original):
        def faulty(*arguments, **options):
            act()
            return original(*arguments, **options)

        return faulty

    replace(owner, name, make)


def after(owner, name, act):
    """Call `act` after each call of a function."""

    def make(original):
        def faulty(*arguments, **options):
            result = original(*arguments, **options)
            act()
            return result

        return faulty

    replace(owner, name, make)
