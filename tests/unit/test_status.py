"""What `deployer status` says of a deployment, by what the host answered."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.cli.status import _state
from deployer.observe.observation import DeploymentState

RUNS = {"pid": 7, "start": 1, "name": "python3", "age_s": 540}
SAID: dict[str, tuple[dict[str, Any], list[str] | str, str]] = {
    "serves": ({"ready": True}, ["q"], "serving, pid 7, for 9 min"),
    "loads": ({"health": "HTTP 503: the model is loading"}, "503", "loading, pid 7, for 9 min"),
    "hangs": (
        {"hangs": True, "health": "HTTP 503: no token for 600 s: it hangs"}, "503",
        "hangs, pid 7: HTTP 503: no token for 600 s: it hangs",
    ),
    "does not answer": ({"process": RUNS | {"age_s": 700}}, "timeout", "pid 7 does not answer: timeout"),
    "is gone": ({"process": None}, "not running", "not running"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_state_in_words(name: str) -> None:
    facts, served, said = SAID[name]
    known = {"name": "q", "model": "q", "served_name": "q", "accelerator": "bm1684x", "port": 8000, "spec": "s"}
    more = {"endpoint": "http://192.0.2.1:8000/v1", "manager": "docker", "files": {}, "process": RUNS}
    assert _state(DeploymentState.model_validate({**known, **more, **facts}), served).plain == said
