"""Stands for a binding that keeps a conversation and has no call to forget it."""

from __future__ import annotations

from chat import Qwen as Single


class Qwen(Single):
    """It says so once it has loaded, by the name that the attribute had first."""

    def init(self, devices: list[int], path: str) -> None:
        """Load."""
        super().init(devices, path)
        self.support_prefill_kv = True
