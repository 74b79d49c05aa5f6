"""Quantities for people."""

from __future__ import annotations


def gb(size: float) -> str:
    """Bytes, in the decimal units that vendors' documents use."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Seconds."""
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
