"""Stands for the binding of several kinds of models: it is told how many blocks its model has, before it loads."""

from __future__ import annotations

from chat_parallel import Qwen as Parallel


class Model(Parallel):
    """As the real one has it."""

    def __init__(self) -> None:
        super().__init__()
        self.NUM_LAYERS = 0

    def init(self, devices: list[int], path: str) -> None:
        """Load; without its blocks there is nothing to run."""
        if self.NUM_LAYERS < 1:
            raise RuntimeError("no blocks")
        super().init(devices, path)
