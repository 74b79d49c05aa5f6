"""Our own server under all that means no good, at once and for minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
@pytest.mark.full
def test_server_stays_bounded_and_answers_for_ten_minutes() -> None:
    words = [sys.executable, "-m", "tests.server_load", "--minutes", "10"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
