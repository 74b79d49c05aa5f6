"""Decides whether an engine's virtual environment has to be installed. Pure."""

from __future__ import annotations

from deployer.observe.observation import Python
from deployer.observe.request import engine_dir
from deployer.plan import preflight
from deployer.plan.draft import Draft
from deployer.plan.types import EngineSpec


def plan(draft: Draft) -> EngineSpec:
    """The engine, and the step that installs it."""
    runtime, observation = draft.runtime, draft.observation
    directory = engine_dir(observation.places.data, runtime.name, runtime.version)
    title = f"{runtime.title} {runtime.version}"
    python = ""
    if observation.engines.get(directory):
        draft.satisfied["engine"] = f"{title} is installed"
    else:
        chosen = preflight.choose_python(runtime, observation, draft.settings)
        if isinstance(chosen, Python):
            python = chosen.path
        else:
            draft.refused.append(chosen)
        draft.needs(observation.places.data, runtime.disk_bytes)
        found = "half-installed" if directory in observation.partial_engines else "absent"
        # What serves from a damaged engine, this deployment or another, loses it while it is installed again.
        used = any(each.engine == directory and each.process for each in observation.deployments.values())
        draft.step("engine", f"{title} {found} → install", runtime.install_s, interrupts=used)
    return EngineSpec(
        dir=directory,
        name=runtime.name,
        version=runtime.version,
        python=python,
        torch=runtime.torch,
        packages=runtime.packages,
        drop_packages=runtime.drop_packages,
        import_check=runtime.import_check,
    )
