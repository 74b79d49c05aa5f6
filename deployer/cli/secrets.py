"""Passwords: asked once, kept in a private directory for as long as the command runs, never on a command line."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import click


class Secrets:
    """Asks for what Ansible would ask for in each of its runs, and hands it on in files of this user alone."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Secrets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def ask_become(self) -> None:
        """Ask for the password of sudo."""
        password = click.prompt("BECOME password", hide_input=True, err=True)
        self.environment["ANSIBLE_BECOME_PASSWORD_FILE"] = str(self._keep("become", password))

    def vault(self, identity: str) -> str:
        """A vault identity for Ansible; one that would prompt is asked for here."""
        label, at, source = identity.rpartition("@")
        if source != "prompt":
            return identity
        password = click.prompt(f"Vault password ({label or 'default'})", hide_input=True, err=True)
        return f"{label}{at}{self._keep('vault', password)}"

    def _keep(self, name: str, password: str) -> Path:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="deployer-"))
        path = self._directory / f"{name}-{len(list(self._directory.iterdir()))}"
        path.touch(mode=0o600)
        path.write_text(password + "\n", encoding="utf-8")
        return path
