"""Reads what hosts are like: the probe that runs on them, and the parsers that run here."""

from deployer.observe.observation import Lock, Observation
from deployer.observe.parse import parse
from deployer.observe.request import build
from deployer.observe.settings import Settings
from deployer.observe.transport import ProbeError, ProbeRefusedError, pack, unpack

__all__ = ["Lock", "Observation", "ProbeError", "ProbeRefusedError", "Settings", "build", "pack", "parse", "unpack"]
