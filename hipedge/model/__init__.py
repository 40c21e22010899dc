"""What a model folder is, how one is made, and the reference model that ships."""

from hipedge.model.card import Card, Status
from hipedge.model.folder import Golden, ModelFolder, open_model
from hipedge.model.new import new_model
from hipedge.model.packaged import packaged_model

__all__ = ["Card", "Golden", "ModelFolder", "Status", "new_model", "open_model", "packaged_model"]
