"""Passwords: asked once, kept in a private directory for as long as the command runs, never on a command line."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import click

from deployer.errors import UsageError


class Secrets:
    """Asks for what Ansible would ask for in each of its runs, and hands it on in files of this user alone.

    `environment` is for Ansible's runs, `words` say the same to its parser in this process; both name files.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._login = ""
        self.environment: dict[str, str] = {}
        self.words: list[str] = []

    def __enter__(self) -> Secrets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def ask_login(self) -> None:
        """Ask for the password of the account that logs in."""
        self._login = _ask("SSH password", "--ask-pass", "ANSIBLE_CONNECTION_PASSWORD_FILE")
        path = str(self._keep("login", self._login))
        self.environment["ANSIBLE_CONNECTION_PASSWORD_FILE"] = path
        self.not_asked("ask_pass")
        self.words += ["--connection-password-file", path]

    def ask_become(self) -> None:
        """Ask for the password of sudo; an empty one is that of the login, where that was asked for."""
        question = "BECOME password" + (" [the SSH password]" if self._login else "")
        password = _ask(question, "--ask-become-pass", "ANSIBLE_BECOME_PASSWORD_FILE", self._login)
        path = str(self._keep("become", password))
        self.environment["ANSIBLE_BECOME_PASSWORD_FILE"] = path
        self.not_asked("become_ask_pass")
        self.words += ["--become-password-file", path]

    def not_asked(self, name: str) -> None:
        """The password is in a file: ansible-playbook asks where ansible.cfg says so, whatever file it is given."""
        self.environment[f"ANSIBLE_{name.upper()}"] = "False"

    def ask_vault(self) -> str:
        """Ask for the password of the vault; a vault identity for Ansible."""
        self.not_asked("ask_vault_pass")
        return self._vault("default", "Vault password", "--ask-vault-pass")

    def vault(self, identity: str) -> str:
        """A vault identity for Ansible; one that would prompt is asked for here."""
        label, _, source = identity.rpartition("@")
        if source != "prompt":
            return identity
        return self._vault(label, f"Vault password ({label or 'default'})", f"--vault-id {identity}")

    def configured_vaults(self, identities: Sequence[str]) -> None:
        """The identities that ansible.cfg has, those asked for that would prompt."""
        found = [self.vault(each) for each in identities]
        if found != list(identities):
            self.environment["ANSIBLE_VAULT_IDENTITY_LIST"] = ",".join(found)
            for new in found:
                self.words += ["--vault-id", new] if new not in identities else []

    def _vault(self, label: str, question: str, option: str) -> str:
        return f"{label}@{self._keep('vault', _ask(question, option, 'ANSIBLE_VAULT_PASSWORD_FILE'))}"

    def _keep(self, name: str, password: str) -> Path:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="deployer-"))
        path = self._directory / f"{name}-{len(list(self._directory.iterdir()))}"
        path.touch(mode=0o600)
        path.write_text(password + "\n", encoding="utf-8")
        return path


def _ask(question: str, option: str, variable: str, default: str = "") -> str:
    """Ask without echo; where nobody can be asked, say how else the password can come."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            f"{option} asks for a password, and there is no terminal to ask on",
            f"leave {option} out and set {variable} to the path of a file (mode 0600) that holds it, or use a terminal",
        )
    if default:
        answer = click.prompt(question, hide_input=True, err=True, default="", show_default=False) or default
    else:
        answer = click.prompt(question, hide_input=True, err=True)
    return str(answer)
