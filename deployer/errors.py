"""Every error a user can meet, and the exit status it ends the command with.

DeployerError             1  something is wrong with deployer itself
├── UsageError            2  options that cannot be, or a question nobody can answer
│   ├── InventoryError    2  the inventory is missing, empty, unparsable or names no such host
│   ├── CatalogError      2  the catalog or its overlay, an unknown model, a pair that cannot work
│   ├── SettingsError     2  an inventory variable has a value that cannot be
│   ├── StateError        2  the user's state directory cannot be written
│   ├── ConfigurationError    2  Ansible cannot work with its own configuration
│   ├── OutputError       2  standard output is closed, or takes nothing more
│   ├── LockedError       2  another run works on the host
│   └── AnsibleMissingError    2  ansible-playbook is not there
└── RunInterruptedError      130  Ctrl-C or SIGTERM
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What `deployer` tells the shell. The worst host decides; see `worst`."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    FAILED = 5
    UNHEALTHY = 6
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """One line for the documentation and for `--help`."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitStatus.OK: "done and verified",
    ExitStatus.INTERNAL: "internal error",
    ExitStatus.USAGE: "usage, inventory or catalog error",
    ExitStatus.REFUSED: "preflight refused a host",
    ExitStatus.UNREACHABLE: "a host is unreachable",
    ExitStatus.FAILED: "a host failed (the others are done)",
    ExitStatus.UNHEALTHY: "deployed, but an endpoint does not answer correctly",
    ExitStatus.INTERRUPTED: "interrupted",
}

# A failed host needs a person first, then one that serves wrongly, then one that is away, then one that was left alone.
_SEVERITY = [
    ExitStatus.OK,
    ExitStatus.REFUSED,
    ExitStatus.UNREACHABLE,
    ExitStatus.UNHEALTHY,
    ExitStatus.FAILED,
    ExitStatus.USAGE,
    ExitStatus.INTERNAL,
    ExitStatus.INTERRUPTED,
]


def worst(statuses: list[ExitStatus]) -> ExitStatus:
    """The exit status of a run from those of its hosts."""
    return max(statuses, key=_SEVERITY.index, default=ExitStatus.OK)


class DeployerError(Exception):
    """An error with a cause (the message) and, where there is one, a remedy."""

    exit_status = ExitStatus.INTERNAL

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(DeployerError):
    """Options that cannot be, or a question nobody can answer."""

    exit_status = ExitStatus.USAGE


class InventoryError(UsageError):
    """The inventory is missing, empty, unparsable, or names no such host."""


class CatalogError(UsageError):
    """A catalog file is wrong, a model is unknown, or a model and an accelerator do not go together."""


class SettingsError(UsageError):
    """An inventory variable has a value that cannot be."""


class StateError(UsageError):
    """The user's state directory cannot be written."""


class ConfigurationError(UsageError):
    """Ansible cannot work with its own configuration."""


class OutputError(UsageError):
    """Standard output is closed, or takes nothing more."""


class LockedError(UsageError):
    """Another run works on the host."""


class AnsibleMissingError(UsageError):
    """`ansible-playbook` is not there."""


class RunInterruptedError(DeployerError):
    """Ctrl-C or SIGTERM."""

    exit_status = ExitStatus.INTERRUPTED
