"""The lab's fixtures."""

from tests.lab.conftest import engine, make_lab, state

__all__ = ["engine", "make_lab", "state"]
