"""How long a step may take before it counts as hanging: so many times its own estimate, and never less than a while."""

from __future__ import annotations

from deployer.plan.types import HostPlan


def limits(plan: HostPlan, factor: float, least_s: int) -> dict[str, int]:
    """Seconds for each task of each step; 0 is no limit: a reboot has its own, and hosts queue for it."""
    return {
        step.id: 0 if step.reboots or factor <= 0 else max(least_s, round(factor * step.estimate_s))
        for step in plan.steps
    }
