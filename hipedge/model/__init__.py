"""Model folders, and the reference model that ships with the package."""

from hipedge.model.card import Card, Status
from hipedge.model.folder import Golden, ModelFolder, open_model
from hipedge.model.packaged import packaged_model, require_model

__all__ = [
    "Card",
    "Golden",
    "ModelFolder",
    "Status",
    "open_model",
    "packaged_model",
    "require_model",
]
