"""Lets ssh notice a host that is gone or frozen, where nobody has said how it shall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# After two minutes without a sign of the host.
OPTIONS = "-o ServerAliveInterval=15 -o ServerAliveCountMax=8"
# The last words of each line, so that what stands before them, as the inventory's own, is what ssh takes.
LAST = {"ssh_extra_args": "ANSIBLE_SSH_EXTRA_ARGS", "sftp_extra_args": "ANSIBLE_SFTP_EXTRA_ARGS"} | {
    "scp_extra_args": "ANSIBLE_SCP_EXTRA_ARGS"
}
FIRST = ("ssh_args", "ssh_common_args")
OWN_FILES = (Path("~/.ssh/config"), Path("/etc/ssh/ssh_config"))


def environment() -> dict[str, str]:
    """What Ansible's connection by ssh shall be told; nothing where ansible.cfg, the environment or ssh's files do."""
    configured = {name: _configured(name) for name in (*FIRST, *LAST)}
    if any("ServerAlive" in value for value in configured.values()) or any(map(_says_so, OWN_FILES)):
        return {}
    return {variable: f"{configured[name]} {OPTIONS}".strip() for name, variable in LAST.items()}


def _configured(name: str) -> str:
    from ansible import constants
    from ansible.plugins.loader import connection_loader

    # Only then the plugin's own settings are known.
    connection_loader.get("ssh", class_only=True)
    value: Any = constants.config.get_config_value(name, plugin_type="connection", plugin_name="ssh")
    return str(value or "")


def _says_so(path: Path) -> bool:
    try:
        text = path.expanduser().read_text(encoding="utf-8", errors="replace")
    except (OSError, RuntimeError):
        return False
    return any(line.split()[0].lower().startswith("serveralive") for line in text.splitlines() if line.strip())
