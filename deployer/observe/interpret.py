"""From a host's raw answer to its observation, with what only the control node knows beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from deployer.catalog import Accelerator, Catalog
from deployer.clean import clean_model
from deployer.observe import holder, packages, unpacked
from deployer.observe.observation import Observation, Package
from deployer.observe.parse import parse
from deployer.observe.settings import Settings
from deployer.observe.transport import ProbeRefusedError

# Compared, copied or printed as it stands; `deployer logs` cleans it for a terminal.
RAW = ("log", "config_text")


def interpret(host: str, raw: Mapping[str, Any], catalog: Catalog, settings: Settings) -> Observation:
    """Parse the answer; who holds the lock and which packages there are is seen here, not there."""
    problem = packages.gone(settings.packages_dir)

    def offline(accelerator: Accelerator) -> tuple[Package, ...] | None:
        if not settings.packages_dir or problem:
            return None
        wanted = unpacked.archives(catalog, settings, accelerator)
        model = catalog.model(settings.model) if settings.model else None
        placement = model.accelerators.get(accelerator.name) if model else None
        image = catalog.runtimes[placement.engine(settings.runtime)].image_file if placement else ""
        return packages.read(host, settings.packages_dir, accelerator, wanted, image)

    said = raw.get("unset")
    unset = [each for each in said if isinstance(each, str)] if isinstance(said, list) else []
    if unset and re.fullmatch(r"[A-Za-z0-9_]{1,100}", unset[0]):
        raise ProbeRefusedError(
            "path",
            f"${unset[0]} in a path of this host, which is not set for the account that is logged in",
            "paths that are whole",
            f"set it there, write ${{{unset[0]}:-/a/default}}, or name the directory itself",
        )
    seen = parse(host, raw, catalog, settings, holder.alive, offline)
    return clean_model(seen.model_copy(update={"packages_problem": problem}) if problem else seen, RAW)
