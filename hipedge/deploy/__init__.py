"""The services of systemd: their units, and installing and removing them."""

from hipedge.deploy.environment import Environment
from hipedge.deploy.files import INCOMING, PEERS_FILE, SETTINGS_FILE, UNIT_FOLDER, UNITS
from hipedge.deploy.install import Action, Step, perform, plan_install, plan_uninstall
from hipedge.deploy.peers import render_peers

__all__ = [
    "INCOMING",
    "PEERS_FILE",
    "SETTINGS_FILE",
    "UNITS",
    "UNIT_FOLDER",
    "Action",
    "Environment",
    "Step",
    "perform",
    "plan_install",
    "plan_uninstall",
    "render_peers",
]
