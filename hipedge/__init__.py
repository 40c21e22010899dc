"""hipedge: screen hip radiographs in batches, at the edge.

The names in `__all__` are the Python API. They live in `hipedge.api`, which is imported when one
of them is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hipedge.telemetry import disable_telemetry

if TYPE_CHECKING:
    from hipedge.api import (
        CATEGORIES,
        BackendError,
        Box,
        Card,
        Case,
        Category,
        Code,
        ConfigError,
        Film,
        Finding,
        FlaggedHip,
        Hip,
        HipedgeError,
        InputError,
        InstallationError,
        Mark,
        ModelError,
        ModelFolder,
        Outcome,
        Priority,
        Refusal,
        ScoredHip,
        Scores,
        Screened,
        Settings,
        Side,
        State,
        StoreError,
        Worklist,
        draw,
        evaluate,
        load_settings,
        open_model,
        read_cases,
        screen,
        worklist,
    )

__version__ = "0.2.0"

# Before any module of hipedge can import a library that has telemetry.
disable_telemetry()

__all__ = [
    "CATEGORIES",
    "BackendError",
    "Box",
    "Card",
    "Case",
    "Category",
    "Code",
    "ConfigError",
    "Film",
    "Finding",
    "FlaggedHip",
    "Hip",
    "HipedgeError",
    "InputError",
    "InstallationError",
    "Mark",
    "ModelError",
    "ModelFolder",
    "Outcome",
    "Priority",
    "Refusal",
    "ScoredHip",
    "Scores",
    "Screened",
    "Settings",
    "Side",
    "State",
    "StoreError",
    "Worklist",
    "draw",
    "evaluate",
    "load_settings",
    "open_model",
    "read_cases",
    "screen",
    "worklist",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("hipedge.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
