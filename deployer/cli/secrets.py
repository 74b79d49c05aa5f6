"""Passwords: asked once, kept in memory for as long as the command runs, never on a command line."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import click

from deployer.cli import memory, redacted
from deployer.errors import UsageError

# The identity of the vault for what a person has typed.
TYPED = "deployer-typed"
PROGRAMS = Path(__file__).with_name("passwords")


class Secrets:
    """Asks for what Ansible would ask for in each of its runs, and hands it on in memory files, or files of this user.

    `environment` is for Ansible's runs, `words` say the same to its parser in this process; both name files. A run has
    to inherit `descriptors`. `shown` has what is printed in the place of such a name; `typed` are words by which a run
    can read what `extra_vars` and `other` have put into files.
    """

    def __init__(self) -> None:
        self._files = memory.MemoryFiles()
        self._login = ""
        self._inside = ExitStack()
        self.environment: dict[str, str] = {}
        self.words: list[str] = []
        self.shown: dict[str, str] = {}
        self.typed: list[str] = []
        self._key = ""

    def __enter__(self) -> Secrets:
        memory.remove_leftovers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside.close()
        self._files.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a run has to inherit, so that it can read the files."""
        return tuple(self._files.descriptors)

    def ask_login(self) -> None:
        """Ask for the password of the account that logs in."""
        self._login = _ask("SSH password", "--ask-pass", "ANSIBLE_CONNECTION_PASSWORD_FILE")
        path = self._program("login", self._login)
        # A run that was told by ansible.cfg to ask would ask again.
        self.environment |= {"ANSIBLE_CONNECTION_PASSWORD_FILE": path, "ANSIBLE_ASK_PASS": "False"}
        self.words += ["--connection-password-file", path]

    def ask_become(self) -> None:
        """Ask for the password of sudo; an empty one is that of the login, where that was asked for."""
        question = "BECOME password" + (" [the SSH password]" if self._login else "")
        password = _ask(question, "--ask-become-pass", "ANSIBLE_BECOME_PASSWORD_FILE", self._login)
        path = self._program("become", password)
        self.environment |= {"ANSIBLE_BECOME_PASSWORD_FILE": path, "ANSIBLE_BECOME_ASK_PASS": "False"}
        self.words += ["--become-password-file", path]

    def extra_vars(self, words: Sequence[str]) -> tuple[str, ...]:
        """Values of `--extra-vars`, those with secrets by the names of files that have them: argv is everybody's."""
        return tuple(self._variables(word) if redacted.has_secret(word) else word for word in words)

    def other(self, words: Sequence[str]) -> tuple[str, ...]:
        """The same for what stands after `--`."""
        found: list[str] = []
        for word in words:
            option, equals, rest = word.partition("=")
            if found and redacted.takes_variables(found[-1]) and redacted.has_secret(word):
                found.append(self._variables(word))
            elif equals and redacted.takes_variables(option) and redacted.has_secret(rest):
                found += ["-e", self._variables(rest)]
            elif word.startswith("-e") and len(word) > 2 and redacted.has_secret(word[2:]):
                found += ["-e", self._variables(word[2:])]
            else:
                found.append(word)
        return tuple(found)

    def _variables(self, word: str) -> str:
        """A file of them for Ansible, which follows links before it reads one: so it is on disk, and encrypted."""
        from ansible.parsing.splitter import parse_kv
        from ansible.parsing.vault import VaultLib, VaultSecret

        if not self.typed:
            self._key = secrets.token_hex(32)
            self.typed = ["--vault-id", f"{TYPED}@{self._files.keep('key', self._key)[0]}"]
        text = word if word[:1] in ("{", "[") else json.dumps(parse_kv(word))
        lib = VaultLib([(TYPED, VaultSecret(self._key.encode()))])
        path = f"@{self._files.on_disk('variables', lib.encrypt(text, vault_id=TYPED))}"
        self.shown[path] = redacted.variables(word)
        return path

    def not_asked(self, name: str) -> None:
        """A file has the password: ansible-playbook asks where ansible.cfg says so, whatever file it is given."""
        self.environment[f"ANSIBLE_{name.upper()}"] = "False"

    def ask_vault(self) -> str:
        """Ask for the password of the vault; a vault identity for Ansible."""
        self.environment |= {"ANSIBLE_ASK_VAULT_PASS": "False"}
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
        password = _ask(question, option, "ANSIBLE_VAULT_PASSWORD_FILE")
        identity = f"{label}@{self._files.keep('vault', password + chr(10))[0]}"
        self.shown[identity] = f"{label}@prompt"
        return identity

    def _program(self, name: str, password: str) -> str:
        """A password file of Ansible's.

        Ansible follows links before it opens one, and the path of a memory file is a link to nothing: it gets a program
        that prints what is there, as it runs every password file that can be run.
        """
        program = PROGRAMS / name
        path, descriptor = self._files.keep(name, password + "\n")
        if descriptor is None:
            return path
        variables = {f"DEPLOYER_{name.upper()}_FD": str(descriptor)}
        self.environment |= variables
        self._inside.enter_context(memory.environment(variables))
        return str(program)


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
