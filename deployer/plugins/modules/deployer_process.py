#!/usr/bin/python
"""Ansible module: starts and stops a deployment's serving process. Standard library only, Python 3.8 or newer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployer_process
short_description: Start or stop the serving process of a deployment
description:
  - Starts the serve script detached from the session, in a session of its own, with its output appended to a log.
  - Finds the processes of a deployment by the C(DEPLOYER_CONFIG) in their environment, and touches no other.
options:
  state:
    description: What to do; C(restarted) stops first what runs or was left behind.
    type: str
    choices: [stopped, restarted]
    required: true
  config_dir:
    description: The deployment's directory, which marks its processes.
    type: str
    required: true
  script:
    description: The serve script.
    type: str
  pid_file:
    description: The file into which the script writes its pid and start time.
    type: str
  log:
    description: The file that gets its output.
    type: str
  stop_timeout:
    description: Seconds from the polite signal to the hard one.
    type: int
    default: 30
author: deployer
"""

import contextlib
import json
import os
import signal
import stat
import sys
import time

from ansible.module_utils.basic import AnsibleModule

KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")
LOG_LIMIT = 50 * 1024 * 1024
START_TIMEOUT_S = 20.0
CHILDREN_TIMEOUT_S = 5.0


def start_time(pid):
    """Start time of a living process in clock ticks, None for one that is gone or a zombie."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as handle:
            fields = handle.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if not fields or fields[0] in ("Z", "X") else int(fields[19])


def is_own(pid):
    """Whether a process is this account's and of a program that it has started as itself.

    Anybody may write anything into the environment of what he starts, also of a program that becomes root (sudo, su).
    """
    try:
        with open("/proc/%d/status" % pid, encoding="utf-8", errors="replace") as handle:
            uids = [line.split()[1:] for line in handle if line.startswith("Uid:")]
        mode = os.stat("/proc/%d/exe" % pid).st_mode
    except OSError:
        return False
    return bool(uids) and set(uids[0]) == {str(os.getuid())} and not mode & (stat.S_ISUID | stat.S_ISGID)


def marked(config_dir):
    """The pid → start time of every process of the deployment."""
    wanted = b"DEPLOYER_CONFIG=" + os.fsencode(config_dir)
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as handle:
                if wanted not in handle.read().split(b"\0"):
                    continue
        except OSError:
            continue
        started = start_time(int(name))
        if started is not None and is_own(int(name)):
            found[int(name)] = started
    return found


def send(processes, number):
    """Signal processes that are still the ones that were found."""
    for pid, started in processes.items():
        if start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def wait_until(condition, seconds):
    """Whether the condition comes true within the time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def stop(config_dir, pid_file, timeout):
    """Stop all processes of the deployment: its leader politely, so that it ends its children, then what is left."""
    processes = marked(config_dir)
    leader = read_pid(pid_file).get("pid")
    if leader in processes:
        send({leader: processes[leader]}, signal.SIGTERM)
        wait_until(lambda: start_time(leader) != processes[leader], timeout)
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = marked(config_dir)
        if left:
            send(left, number)
            wait_until(lambda: not marked(config_dir), CHILDREN_TIMEOUT_S)
    return sorted(processes)


def read_pid(pid_file):
    """The content of the pid file, empty where there is none that can be read."""
    try:
        with open(pid_file or "", encoding="utf-8") as handle:
            content = json.load(handle)
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def start(module, script, pid_file, log):
    """Start the script in a session of its own, and return its pid once it has written its pid file."""
    if os.path.exists(log) and os.path.getsize(log) > LOG_LIMIT:
        os.replace(log, log + ".1")
    if os.path.exists(pid_file):
        os.unlink(pid_file)
    log_offset = os.path.getsize(log) if os.path.exists(log) else 0
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        detach(script, log, writer)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as stream:
        pid = int(stream.read() or 0)

    def started():
        return read_pid(pid_file).get("pid") == pid

    wait_until(lambda: started() or start_time(pid) is None, START_TIMEOUT_S)
    if started():
        return pid, log_offset
    with open(log, "rb") as handle:
        handle.seek(log_offset)
        tail = handle.read(4000).decode("utf-8", "replace")
    module.fail_json(msg="%s did not start: %s" % (script, tail.strip() or "no output"), tail=tail)
    return None


def detach(script, log, writer):
    """Become the script, owned by nobody: new session, no terminal, no inherited files, a small environment.

    The script's pid goes down the pipe, so that its end can be seen even before it has written a pid file.
    """
    try:
        # The first child ends at once, so that the server is nobody's child; the second leads a session of its own.
        if os.fork():
            os._exit(0)
        os.setsid()
        os.write(writer, str(os.getpid()).encode())
        os.chdir("/")
        os.umask(0o027)
        source = os.open(os.devnull, os.O_RDONLY)
        target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        for number, descriptor in ((0, source), (1, target), (2, target)):
            os.dup2(descriptor, number)
        os.closerange(3, 4096)
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        os.execve("/bin/sh", ["/bin/sh", script], environment)
    except BaseException as error:
        os.write(2, ("deployer: %s\n" % error).encode())
    finally:
        os._exit(127)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["stopped", "restarted"], "required": True},
            "config_dir": {"type": "str", "required": True},
            "script": {"type": "str"},
            "pid_file": {"type": "str"},
            "log": {"type": "str"},
            "stop_timeout": {"type": "int", "default": 30},
        },
        required_if=[("state", "restarted", ("script", "pid_file", "log"))],
        supports_check_mode=True,
    )
    arguments = module.params
    before = sorted(marked(arguments["config_dir"]))
    if module.check_mode:
        module.exit_json(changed=bool(before) or arguments["state"] == "restarted", stopped=before)
    stopped = stop(arguments["config_dir"], arguments["pid_file"], arguments["stop_timeout"])
    left = sorted(marked(arguments["config_dir"]))
    if left:
        module.fail_json(msg="processes %s do not end, even when killed" % left)
    if arguments["state"] == "stopped":
        module.exit_json(changed=bool(stopped), stopped=stopped)
    pid, log_offset = start(module, arguments["script"], arguments["pid_file"], arguments["log"])
    module.exit_json(changed=True, stopped=stopped, pid=pid, log_offset=log_offset)


if __name__ == "__main__":
    sys.exit(main())
