"""Says in words why what is deployed is not what is wanted: settings, files, or a server that hangs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from deployer.observe.observation import DeploymentState
from deployer.plan import config_copy, render
from deployer.plan.draft import Draft
from deployer.plan.types import ServingSpec
from deployer.secret import MARK, is_secret

SHOWN_CHANGES = 3


def difference(have: DeploymentState, want: ServingSpec) -> str:
    """`--max-model-len 4096 → 8192; …`."""
    wanted = dict(want.environment)
    several: dict[str, list[str]] = {}
    name = ""
    for word in want.command:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            wanted[name] = value or "on"
            name = "" if equals else name
        elif name:
            # Several values are several words after the option.
            several.setdefault(name, []).append(word)
    wanted |= {name: " ".join(words) for name, words in several.items()}
    if want.container is not None:
        wanted["image"] = want.container.image
    parts = []
    if _copies(have.files) != _copies({path: render.sha256(content) for path, content in want.files.items()}):
        parts.append("config.json of the weights has changed")
    for name in sorted({*wanted, *have.settings}):
        old, new = have.settings.get(name), wanted.get(name)
        if old != new:
            parts.append(_change(name, old, new))
    if not parts:
        return "its files or its container are of another version"
    more = f" and {len(parts) - SHOWN_CHANGES} more" if len(parts) > SHOWN_CHANGES else ""
    return "; ".join(parts[:SHOWN_CHANGES]) + more


def _change(name: str, old: str | None, new: str | None) -> str:
    """What has become of a setting; of a secret not even its mark says anything to a person."""
    if any(each and (MARK.fullmatch(each) or is_secret(name, each)) for each in (old, new)):
        return f"{name} {'set' if old is None else 'removed' if new is None else 'changed'}"
    return f"{name} {old if old is not None else 'unset'} → {new if new is not None else 'unset'}"


def _copies(files: Mapping[str, str | None]) -> list[str | None]:
    """Checksums of what containers see as the weights' config.json."""
    return [checksum for path, checksum in files.items() if path.endswith(f"/{config_copy.NAME}")]


def of_files(have: DeploymentState, want: ServingSpec, again: str) -> str | None:
    """Other settings, or a file that is not as it was written; `again` is what is done to what runs now."""
    if have.spec != want.spec:
        return f"{difference(have, want)} → {again if have.process else 'start'}"
    for path, content in want.files.items():
        if have.files.get(path) != render.sha256(content):
            return f"{path.rpartition('/')[2]} was changed by hand or is missing → write it again and restart"
    return None


def of_running(draft: Draft, have: DeploymentState, want: ServingSpec) -> str | None:
    """A server that lives and never gets ready, or one that somebody wants restarted."""
    if have.process and not have.ready and have.process.age_s > want.ready_timeout_s:
        return f"alive for {have.process.age_s} s but /health says {have.health or 'nothing'} → restart"
    if draft.settings.restart:
        return "restart was asked for"
    return None
