"""Typed decorators for Numba's compiler; kernels are compiled at first use and cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function, preserving the order of its floating-point operations."""
    return cast(Function, njit(cache=True)(function))


def compiled_fast(function: Function) -> Function:
    """Compile a function whose floating-point sums may be reordered."""
    return cast(Function, njit(cache=True, fastmath=True)(function))
