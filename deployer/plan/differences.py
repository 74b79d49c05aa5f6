"""Says in words what changed between the settings that are deployed and those that are wanted. Pure."""

from __future__ import annotations

from deployer.observe.observation import DeploymentState
from deployer.plan.types import ServingSpec

SHOWN_CHANGES = 3


def difference(have: DeploymentState, want: ServingSpec) -> str:
    """`--max-model-len 4096 → 8192; …`."""
    wanted = dict(want.environment)
    for word in want.command:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            wanted[name] = value or "on"
    if want.container is not None:
        wanted["image"] = want.container.image
    parts = []
    for name in sorted({*wanted, *have.settings}):
        old, new = have.settings.get(name), wanted.get(name)
        if old != new:
            parts.append(f"{name} {old if old is not None else 'unset'} → {new if new is not None else 'unset'}")
    if not parts:
        return "its files or its container are of another version"
    more = f" and {len(parts) - SHOWN_CHANGES} more" if len(parts) > SHOWN_CHANGES else ""
    return "; ".join(parts[:SHOWN_CHANGES]) + more
