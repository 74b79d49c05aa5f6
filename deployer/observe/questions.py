"""What the hosts of one accelerator are asked, and what they answered: a namespace of its own for each accelerator.

A model may run on the cards of several vendors. Each vendor's questions then go to the same host side by side, and none
of them can take another's place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Questions:
    """One accelerator's questions. Paths may begin with a place of the request, as `{tx8.data}`.

    `timeout_s` is the limit of each command. `holders` are patterns of device nodes: which processes have them open is
    looked up where the command `holders_unless` did not end well.
    """

    files: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    globs: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    timeout_s: float | None = None
    holders: list[str] = field(default_factory=list)
    holders_unless: str = ""
    _commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    _each: dict[str, dict[str, Any]] = field(default_factory=dict)

    def command(self, name: str, argv: list[str], after: str = "") -> None:
        """Ask what a read-only command says; only where the command `after` gave an answer, as both may hang alike."""
        self._new(name)
        self._commands[name] = {"argv": argv, "after": after}

    def command_for_each(self, name: str, source: str, pattern: str, argv: list[str]) -> None:
        """Ask it once for each thing that `pattern` finds in what `source` said; `{}` in `argv` is that thing."""
        self._new(name)
        self._each[name] = {"from": source, "pattern": pattern, "argv": argv}

    def _new(self, name: str) -> None:
        if name in self._commands or name in self._each:
            raise ValueError(f"the question {name!r} is asked twice")

    def request(self) -> dict[str, Any]:
        """As the probe gets it."""
        return {
            "files": self.files,
            "paths": self.paths,
            "globs": self.globs,
            "accounts": self.accounts,
            "timeout_s": self.timeout_s,
            "commands": self._commands,
            "commands_each": self._each,
            "holders": self.holders,
            "holders_unless": self.holders_unless,
        }


@dataclass(frozen=True)
class Said:
    """What a command said; `rc` is None where it gave no answer, and `error` says why."""

    rc: int | None = None
    stdout: str = ""
    stderr: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.rc == 0

    @property
    def text(self) -> str:
        """All that it printed."""
        return f"{self.stdout}\n{self.stderr}"

    @property
    def words(self) -> str:
        """The last line that it printed, else why it printed none."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1][:200] if lines else self.error or ("was not asked" if self.rc is None else f"status {self.rc}")


@dataclass(frozen=True)
class Answers:
    """What a host answered to one accelerator's questions; what was not asked reads as absent."""

    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any], accelerator: str) -> Answers:
        """Those of one accelerator in a probe's answer."""
        return cls(raw.get("asked", {}).get(accelerator, {}))

    def text(self, path: str) -> str:
        """A file's text; empty where it cannot be read."""
        return str(self._of("files", path).get("text") or "")

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path."""
        return bool(self._of("paths", path).get("exists"))

    def glob(self, pattern: str) -> tuple[str, ...]:
        """The paths that a pattern found."""
        return tuple(str(each) for each in self.raw.get("globs", {}).get(pattern, ()))

    def account(self, name: str) -> bool:
        """Whether the host knows an account."""
        return bool(self.raw.get("accounts", {}).get(name))

    def command(self, name: str) -> Said:
        """What a command said."""
        return _said(self._of("commands", name))

    def command_for_each(self, name: str) -> dict[str, Said]:
        """Thing → what the command said of it."""
        found = self.raw.get("commands", {})
        return {key[len(name) + 1 :]: _said(each) for key, each in found.items() if key.startswith(f"{name} ")}

    @property
    def holders(self) -> dict[str, list[int]]:
        """Device node → processes that have it open, of those that were looked for."""
        return {str(node): [int(pid) for pid in pids] for node, pids in self.raw.get("holders", {}).items()}

    @property
    def uses(self) -> list[str]:
        """The first process of each node that is open, in words."""
        return [f"pid {pids[0]} uses {node}" for node, pids in sorted(self.holders.items()) if pids]

    def _of(self, kind: str, key: str) -> Mapping[str, Any]:
        found = self.raw.get(kind, {}).get(key, {})
        return found if isinstance(found, Mapping) else {}


def _said(each: Mapping[str, Any]) -> Said:
    rc = each.get("rc")
    return Said(
        rc=None if rc is None else int(rc),
        stdout=str(each.get("stdout") or ""),
        stderr=str(each.get("stderr") or ""),
        error=str(each.get("error") or ""),
    )
