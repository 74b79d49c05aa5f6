"""Runs Ansible: the inventory as it sees it, one child process per phase, and its events as they come."""

from deployer.apply.events import Event
from deployer.apply.runner import AnsibleOptions, Runner
from deployer.apply.watch import Watch

__all__ = ["AnsibleOptions", "Event", "Runner", "Watch"]
