"""Reads what hosts are like: the probe that runs on them, and the parsers that run here."""

from deployer.observe.interpret import interpret
from deployer.observe.observation import Lock, Observation
from deployer.observe.parse import parse
from deployer.observe.request import build
from deployer.observe.settings import Settings
from deployer.observe.transport import (
    MAX_ANSWER,
    NoAnswerError,
    ProbeError,
    ProbeRefusedError,
    described,
    pack,
    source,
    unpack,
)

__all__ = [
    "MAX_ANSWER",
    "Lock",
    "NoAnswerError",
    "Observation",
    "ProbeError",
    "ProbeRefusedError",
    "Settings",
    "build",
    "described",
    "interpret",
    "pack",
    "parse",
    "source",
    "unpack",
]
