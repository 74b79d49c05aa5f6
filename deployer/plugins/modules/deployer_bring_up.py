#!/usr/bin/python
"""Ansible module: an installer that starts devices and may stay in the foreground. Standard library, Python 3.8+."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_bring_up
short_description: Start an installer detached, and wait for one slice of time until its devices answer
description:
  - It is started once, in its own directory, with its output in a log. One that runs already is waited for.
  - What counts is that the devices answer, not that the installer ends. One that stays is left alone.
  - One that has failed fails at once, with the last lines of its log.
  - A screen of the command that has no such line, once the installer has no more to do, is C(unread), and no failure.
options:
  state:
    description: C(started) starts it where it does not run, C(ready) waits.
    type: str
    choices: [started, ready]
    required: true
  installer:
    description: Program on the host, where it is to be started.
    type: path
    default: ""
  arguments:
    description: Its arguments.
    type: list
    elements: str
    default: []
  log:
    description: Where its output goes.
    type: path
    required: true
  state_file:
    description: Where its pid and its result are kept.
    type: path
    required: true
  nodes:
    description: Patterns of paths, one of which is there when the devices are up.
    type: list
    elements: str
    default: []
  command:
    description: Command that shows the devices.
    type: list
    elements: str
    required: true
  pattern:
    description: A line that it prints for a device, a regular expression; by its group C(chip) each is counted once.
    type: str
    required: true
  count:
    description: How many devices there have to be.
    type: int
    required: true
  command_timeout_s:
    description: Seconds that the command may take.
    type: int
    default: 30
  slice_s:
    description: Seconds to wait at the most.
    type: int
    default: 10
author: deployer
"""

import contextlib
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time

from ansible.module_utils.basic import AnsibleModule

TAIL_BYTES = 6000
# How long after an installer's end, or its last word, its devices may take until they answer.
GRACE_S = 60
MOMENT_S = 3


def start_time(pid):
    """Clock ticks since boot at which a living process began, None for a dead one."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as handle:
            fields = handle.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def boot_id():
    """What tells one boot of the host from another."""
    with open("/proc/sys/kernel/random/boot_id") as handle:
        return handle.read().strip()


def read(path):
    """A file's JSON object, empty where there is none."""
    try:
        with open(path) as handle:
            found = json.load(handle)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def tail(path):
    """The last lines of the log."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(0, os.path.getsize(path) - TAIL_BYTES))
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def begin(arguments):
    """Start it in a session of its own; its exit status is written when it ends."""
    result = arguments["state_file"] + ".rc"
    if os.path.exists(result):
        os.remove(result)
    words = [arguments["installer"], *arguments["arguments"]]
    with open(arguments["log"], "wb") as log:
        child = subprocess.Popen(
            ["/bin/sh", "-c", '"$@"; printf "%s\\n" "$?" > "$0.new" && mv "$0.new" "$0"', result, *words],
            cwd=os.path.dirname(arguments["installer"]), stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, close_fds=True,
        )  # fmt: skip
    facts = {"pid": child.pid, "start": start_time(child.pid), "boot_id": boot_id()}
    with open(arguments["state_file"] + ".new", "w") as handle:
        json.dump(facts, handle)
    os.replace(arguments["state_file"] + ".new", arguments["state_file"])
    return facts


def is_alive(facts):
    """Whether the installer that was started is still there."""
    if facts.get("boot_id") != boot_id() or not isinstance(facts.get("pid"), int):
        return False
    return facts.get("start") is not None and start_time(facts["pid"]) == facts["start"]


def status(arguments):
    """Its exit status, None while it runs or where it was killed."""
    try:
        with open(arguments["state_file"] + ".rc") as handle:
            return int(handle.read())
    except (OSError, ValueError):
        return None


def devices(arguments):
    """How many devices answer, what is said where not all do, and whether that is a screen which nobody can read."""
    if arguments["nodes"] and not any(glob.glob(pattern) for pattern in arguments["nodes"]):
        return 0, "no device node yet", False
    environment = dict(os.environ, LC_ALL="C")
    try:
        done = subprocess.Popen(
            arguments["command"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return 0, str(error), False
    try:
        printed = done.communicate(timeout=arguments["command_timeout_s"])[0]
    except subprocess.TimeoutExpired:
        # One that hangs in the kernel outlives even that, and is not waited for.
        with contextlib.suppress(OSError):
            os.killpg(done.pid, signal.SIGKILL)
        return 0, "no answer within %d s" % arguments["command_timeout_s"], False
    lines = printed.decode("utf-8", "replace").splitlines()
    said = "".join([line.strip() for line in lines if line.strip()][-1:])[:200]
    if done.returncode != 0:
        return 0, said or "status %d" % done.returncode, False
    count = number(arguments["pattern"], lines)
    if count:
        return count, "%d of %d chips answer" % (count, arguments["count"]), False
    words = "%s shows no row of a chip that is known" % name(arguments["command"])
    return 0, "%s: %s" % (words, said) if said else words, bool(said)


def number(pattern, lines):
    """How many devices have a line; one that is said twice is one."""
    row = re.compile(pattern)
    found = [match for match in map(row.search, lines) if match]
    if "chip" in row.groupindex:
        return len({int(match.group("chip")) for match in found})
    return len(found)


def name(command):
    """What a command is called: a shell's is the last word of its script."""
    return os.path.basename(command[-1].split()[-1])


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "ready"], "required": True},
            "installer": {"type": "path", "default": ""},
            "arguments": {"type": "list", "elements": "str", "default": []},
            "log": {"type": "path", "required": True},
            "state_file": {"type": "path", "required": True},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "command": {"type": "list", "elements": "str", "required": True},
            "pattern": {"type": "str", "required": True},
            "count": {"type": "int", "required": True},
            "command_timeout_s": {"type": "int", "default": 30},
            "slice_s": {"type": "int", "default": 10},
        },
    )
    arguments = module.params
    if arguments["state"] == "started":
        facts = read(arguments["state_file"])
        if is_alive(facts):
            module.exit_json(changed=False, pid=facts["pid"], msg="it runs already")
        module.exit_json(changed=True, pid=begin(arguments)["pid"])
    wait(module, arguments)


def wait(module, arguments):
    """Until the devices answer, the installer has failed, or the slice of time is over."""
    facts = read(arguments["state_file"])
    deadline = time.monotonic() + arguments["slice_s"]
    while True:
        # In this order: one that ends meanwhile is seen in the next round.
        alive, code = is_alive(facts), status(arguments)
        count, said, unread = devices(arguments)
        if count >= arguments["count"]:
            note_ready(arguments["state_file"], facts)
            module.exit_json(changed=False, ready=True, **staying(facts, arguments["log"]))
        if not alive and code != 0:
            word = "was killed" if code is None else "ended with status %d" % code
            fail(module, arguments, "the installer %s, and %s" % (word, said))
        # One that stays has done what it can once it is silent.
        last = arguments["log"] if alive else arguments["state_file"] + ".rc"
        if unread and long_ago(last):
            word = "runs and is silent" if alive else "ended with status 0"
            words = "the installer %s, and %s; its output is in %s" % (word, said, arguments["log"])
            module.exit_json(changed=False, ready=False, unread=True, msg=words, note=words)
        if not alive and long_ago(last):
            fail(module, arguments, "the installer ended with status 0, and %s" % said)
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    word = "runs" if alive else "ended with status 0"
    module.exit_json(
        changed=False, ready=False, stays=False, pid=facts.get("pid"), tail=tail(arguments["log"]),
        msg="the installer %s, and the chips do not answer yet (%s); its output is in %s"
        % (word, said, arguments["log"]),
    )  # fmt: skip


def fail(module, arguments, words):
    """What it did cannot become better by waiting."""
    module.fail_json(
        msg="%s; its output is in %s" % (words, arguments["log"]), tail=tail(arguments["log"]), ready=False, dead=True
    )


def note_ready(path, facts):
    """Note that it has done its work: one that stays is not at work any more."""
    if not facts or facts.get("ready"):
        return
    with open(path + ".new", "w") as handle:
        json.dump(dict(facts, ready=True), handle)
    os.replace(path + ".new", path)


def staying(facts, log):
    """Whether it stays when its work is done: an installer that ends gets a moment for that."""
    end = time.monotonic() + MOMENT_S
    while is_alive(facts) and time.monotonic() < end:
        time.sleep(0.1)
    if not is_alive(facts):
        return {"stays": False}
    words = "all chips answer and the installer stays in the foreground (pid %d): it is left running" % facts["pid"]
    return {"stays": True, "pid": facts["pid"], "note": "%s; its output is in %s" % (words, log)}


def long_ago(path):
    """Whether a file was last written so long ago that the devices have had their time to answer."""
    try:
        return time.time() - os.stat(path).st_mtime > GRACE_S
    except OSError:
        return True


if __name__ == "__main__":
    sys.exit(main())
