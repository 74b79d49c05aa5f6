#!/usr/bin/python
"""Ansible module: watches a serving process until it answers or dies. Standard library only, Python 3.8 or newer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_wait_ready
short_description: Wait for one slice of time until a serving process answers, or dies
description:
  - Asks the health URL and looks at the process in turn. A dead process fails at once, with the last lines of its log.
  - Returns C(ready=false) when the slice is over, so that a retry loop shows that it goes on.
options:
  health_url:
    description: URL that answers 200 when the server is ready.
    type: str
    required: true
  pid_file:
    description: File with pid, start time and boot id of the process.
    type: str
    required: true
  log:
    description: The process's log.
    type: str
    required: true
  slice_s:
    description: Seconds to wait at the most.
    type: int
    default: 10
author: deployer
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule

TAIL_BYTES = 6000


def alive(pid_file):
    """Whether the process of the pid file lives, and its pid; a missing file is a process that is not there yet."""
    try:
        with open(pid_file, encoding="utf-8") as handle:
            facts = json.load(handle)
        pid = int(facts["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return False, None
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as handle:
            fields = handle.read().rpartition(")")[2].split()
        return fields[0] not in ("Z", "X") and int(fields[19]) == int(facts["start"]), pid
    except (OSError, IndexError, ValueError, KeyError):
        return False, pid


def answers(url):
    """Whether the URL answers 200; no proxy stands between a host and itself."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return response.status == 200
    except (OSError, ValueError, urllib.error.URLError):
        return False


def tail(log):
    """The last lines of the log."""
    try:
        with open(log, "rb") as handle:
            handle.seek(max(0, os.path.getsize(log) - TAIL_BYTES))
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "health_url": {"type": "str", "required": True},
            "pid_file": {"type": "str", "required": True},
            "log": {"type": "str", "required": True},
            "slice_s": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    arguments = module.params
    begin = time.monotonic()
    pid = None
    while True:
        living, pid = alive(arguments["pid_file"])
        if not living:
            module.fail_json(
                msg="the engine died while it started (pid %s); its last lines are in %s" % (pid, arguments["log"]),
                ready=False, dead=True, tail=tail(arguments["log"]),
            )  # fmt: skip
        if answers(arguments["health_url"]):
            module.exit_json(changed=False, ready=True, dead=False, pid=pid)
        if time.monotonic() - begin > arguments["slice_s"]:
            break
        time.sleep(0.3)
    module.exit_json(
        changed=False, ready=False, dead=False, pid=pid, tail=tail(arguments["log"]),
        msg="pid %s is alive and does not answer %s yet" % (pid, arguments["health_url"]),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
