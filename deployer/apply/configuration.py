"""Ansible's own configuration, which it reads as it is imported: what is wrong there is the user's to correct."""

from __future__ import annotations

import os

from deployer.errors import ConfigurationError, UsageError

LONGEST = 400


def require() -> None:
    """Import Ansible; a configuration with which it cannot work is an error before anything else is done."""
    require_directory()
    try:
        # Each reads a part of it: the values and the place of its files, its log; its command line ends the process.
        import ansible.constants
        import ansible.parsing.dataloader
        import ansible.utils.display  # noqa: F401
    except ImportError:
        raise
    except Exception as error:
        raise unusable(error) from error


def require_directory() -> None:
    """Refuse a current directory that is gone or closed to us: every relative path would be a riddle."""
    try:
        os.getcwd()  # noqa: PTH109  only this asks the kernel and nothing else
    except OSError as error:
        raise UsageError(f"the current directory cannot be used: {error.strerror}", "cd to another one") from error


def unusable(error: Exception) -> ConfigurationError:
    """What Ansible, or Python inside of it, has said, in one line."""
    text = " ".join(str(getattr(error, "message", None) or error).split())
    said = text.encode("utf-8", "replace").decode("utf-8")[:LONGEST] or type(error).__name__
    return ConfigurationError(
        f"Ansible cannot work like this: {said}",
        f"correct {_file() or 'the ANSIBLE_ variables of the environment'}; `ansible-config dump` shows what is in use",
    )


def _file() -> str:
    """The ansible.cfg in use."""
    try:
        from ansible.config.manager import find_ini_config_file

        return str(find_ini_config_file() or "")
    except Exception:  # what is broken may be more than the file
        return ""
