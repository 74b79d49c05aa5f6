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
  log:
    description: The process's log.
    type: str
  container:
    description: Name of the container that serves, where it is one; pid file and log are then Docker's.
    type: str
    default: ""
  slice_s:
    description: Seconds to wait at the most.
    type: int
    default: 10
author: deployer
"""

import http.client
import json
import os
import socket
import struct
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
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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


class Process:
    """A server that has a pid file."""

    def __init__(self, module):
        self.pid_file, self.log = module.params["pid_file"], module.params["log"]
        self.pid = None

    def state(self):
        """Whether it lives, and its name for people."""
        living, self.pid = alive(self.pid_file)
        return living, "pid %s" % self.pid

    def tail(self):
        """The last lines of its log."""
        return tail(self.log)


class Container:
    """A server that Docker keeps: one that has died is started again, so a restart means that it died."""

    def __init__(self, name):
        self.name, self.log = name, "docker logs %s" % name
        self.restarts = None
        self.pid = None

    def get(self, path):
        """GET from the Docker engine."""
        connection = UnixConnection("/var/run/docker.sock")
        try:
            connection.request("GET", "/containers/%s/%s" % (self.name, path))
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def state(self):
        """Whether it lives, and its name for people."""
        body = self.get("json")
        if body is None:
            return False, "container %s is gone, or Docker does not answer" % self.name
        facts = json.loads(body.decode("utf-8", "replace"))
        state, restarts = facts["State"], facts.get("RestartCount") or 0
        self.pid = state.get("Pid")
        first = self.restarts is None
        self.restarts = restarts if first else self.restarts
        if state["Status"] == "running" and restarts == self.restarts and not (first and restarts > 0):
            return True, "container %s" % self.name
        return False, "container %s %s" % (self.name, ending(state, restarts))

    def tail(self):
        """The last lines of its log; Docker puts a header of eight bytes before each piece."""
        body, pieces, place = self.get("logs?stdout=1&stderr=1&tail=60") or b"", [], 0
        while place + 8 <= len(body) and body[place] in (0, 1, 2):
            (length,) = struct.unpack(">I", body[place + 4 : place + 8])
            pieces.append(body[place + 8 : place + 8 + length])
            place += 8 + length
        return b"".join(pieces).decode("utf-8", "replace")[-TAIL_BYTES:]


def ending(state, restarts):
    """How it ended, as far as Docker knows: of one that runs again it has forgotten the status."""
    if state.get("OOMKilled"):
        how = "was killed: no memory was left for it"
    elif state["Status"] in ("running", "created"):
        how = "ended"
    else:
        how = "ended with status %s" % state.get("ExitCode")
    if state["Status"] in ("running", "restarting"):
        how += ", and Docker %s it again" % ("starts" if state["Status"] == "restarting" else "has started")
        how += ", %d times so far" % restarts if restarts > 1 else ""
    return how


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "health_url": {"type": "str", "required": True},
            "pid_file": {"type": "str", "default": ""},
            "log": {"type": "str", "default": ""},
            "container": {"type": "str", "default": ""},
            "slice_s": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    arguments = module.params
    server = Container(arguments["container"]) if arguments["container"] else Process(module)
    begin = time.monotonic()
    while True:
        living, who = server.state()
        if not living:
            module.fail_json(
                msg="the engine died while it started (%s); its last lines are in %s" % (who, server.log),
                ready=False, dead=True, tail=server.tail(),
            )  # fmt: skip
        if answers(arguments["health_url"]):
            module.exit_json(changed=False, ready=True, dead=False, pid=server.pid)
        if time.monotonic() - begin > arguments["slice_s"]:
            break
        time.sleep(0.3)
    module.exit_json(
        changed=False, ready=False, dead=False, pid=server.pid, tail=server.tail(),
        msg="%s is alive and does not answer %s yet" % (who, arguments["health_url"]),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
