"""The record of runs, in the user's state directory."""

from deployer.runs.record import KEPT_RUNS, Record, open_record

__all__ = ["KEPT_RUNS", "Record", "open_record"]
