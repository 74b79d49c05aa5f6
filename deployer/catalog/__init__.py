"""Models, accelerators, engines and known failures, as data: `data/` here, and overlays that users write."""

from deployer.catalog.failures import match as match_failure
from deployer.catalog.loader import Catalog, load, overlay_directories
from deployer.catalog.schema import (
    Accelerator,
    Archive,
    Driver,
    Failure,
    Job,
    Model,
    Placement,
    Runtime,
    Weights,
    WeightsSource,
)

__all__ = [
    "Accelerator",
    "Archive",
    "Catalog",
    "Driver",
    "Failure",
    "Job",
    "Model",
    "Placement",
    "Runtime",
    "Weights",
    "WeightsSource",
    "load",
    "match_failure",
    "overlay_directories",
]
