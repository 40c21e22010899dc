"""The services of systemd: their units, and installing and removing them."""

from hipedge.deploy.environment import Environment
from hipedge.deploy.files import SETTINGS_FILE, UNIT_FOLDER, UNITS
from hipedge.deploy.install import Action, Step, perform, plan_install, plan_uninstall

__all__ = [
    "SETTINGS_FILE",
    "UNITS",
    "UNIT_FOLDER",
    "Action",
    "Environment",
    "Step",
    "perform",
    "plan_install",
    "plan_uninstall",
]
