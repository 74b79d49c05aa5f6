"""Looks at many hosts in this process: Ansible's own variables and connections, without a fork per host and task.

What cannot be told for certain this way is left to Ansible's normal path, for those hosts alone.
"""

from deployer.reach.call import Call
from deployer.reach.controller import PASSWORD_FILES, Controller, NotHereError, parsed, quiet
from deployer.reach.fleet import SLOTS, Failed, Looked, Silent, look

__all__ = [
    "PASSWORD_FILES",
    "SLOTS",
    "Call",
    "Controller",
    "Failed",
    "Looked",
    "NotHereError",
    "Silent",
    "look",
    "parsed",
    "quiet",
]
