"""Hosts reboot so many at a time, whichever worker of Ansible's they belong to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from deployer.plugins.action import deployer_reboot


@pytest.mark.parametrize("places", [1, 3])
def test_no_more_than_so_many_hold_a_place(places: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployer_reboot, "POLL_S", 0.01)
    guard, inside, most = threading.Lock(), set[int](), []

    def work(number: int) -> None:
        with deployer_reboot.place(tmp_path, places):
            with guard:
                inside.add(number)
                most.append(len(inside))
            for _ in range(100):
                guard.acquire()
                guard.release()
            with guard:
                inside.discard(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(most) == 12
    assert max(most) <= places


def test_place_is_free_again_when_its_holder_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), deployer_reboot.place(tmp_path, 1):
        raise RuntimeError
    with deployer_reboot.place(tmp_path, 1) as number:
        assert number == 0


ENDS: dict[str, tuple[dict[str, Any], bool]] = {
    "not back in time": ({"failed": True, "rebooted": True, "msg": "Timed out waiting for last boot time check"}, True),
    "back": ({"rebooted": True, "changed": True}, False),
    "was not sent off": ({"failed": True, "rebooted": False, "msg": "Timed out waiting for x"}, False),
    "command failed": ({"failed": True, "rebooted": True, "msg": "Reboot command failed"}, False),
}


@pytest.mark.parametrize("name", ENDS)
def test_host_that_is_not_back_is_unreachable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, gone = ENDS[name]
    monkeypatch.setattr("ansible.plugins.action.reboot.ActionModule.run", lambda *_: dict(ended))
    action = object.__new__(deployer_reboot.ActionModule)
    result = action._reboot(None, None)
    assert bool(result.get("unreachable")) is gone
    assert bool(result.get("failed")) is (bool(ended.get("failed")) and not gone)
