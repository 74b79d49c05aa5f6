"""What it takes until the command says anything, beside the import of the library that such a command needs."""

from __future__ import annotations

import sys

from bench import fleet, measure

COMMANDS = {
    "import click": [sys.executable, "-c", "import click"],
    "deployer --help": [str(fleet.BIN / "deployer"), "--help"],
    "deployer models": [str(fleet.BIN / "deployer"), "models"],
}


def measure_start(rounds: int) -> dict[str, list[float]]:
    """Command → seconds of each round, taking turns."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            found.setdefault(name, []).append(round(measure.run(words, fleet.environment()).wall, 4))
    return found
