"""Looking at hosts in this process: the inventory's connection counts, and whatever is unusual is left to Ansible.

`ssh` is a program that notes its arguments and runs the command on this machine, so that Ansible's own plugin composes
the line and the real probe answers.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployer import paths, reach
from deployer.apply import inventory
from deployer.errors import UsageError
from deployer.reach import call, channel, fleet

SSH = r"""#!/bin/bash
printf '%s\n' "$@" > "$LAB/arguments"
echo run >> "$LAB/runs"
[ ! -e "$LAB/before" ] || . "$LAB/before"
exec /bin/sh -c "${@: -1}"
"""
SUDO = r"""#!/bin/bash
printf '%s\n' "$@" > "$LAB/sudo-arguments"
while [ $# -gt 1 ]; do
  case $1 in
    -S) asks=yes ;;
    -p) printf '%s' "$2" >&2; shift ;;
  esac
  shift
done
if [ "${asks-}" ]; then
  read -r password
  [ "$password" = right ] || { echo 'sudo: 1 incorrect password attempt' >&2; exit 1; }
fi
exec /bin/sh -c "$1"
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the two programs; a file `before` there is run by ssh first."""
    for name, text in (("ssh", SSH), ("sudo", SUDO)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("LAB", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


Looks = Callable[..., list[Any]]


@pytest.fixture
def looks(lab: Path) -> Looks:
    """Look at the hosts of an inventory text, with these words on Ansible's line."""

    def look(text: str, *words: str) -> list[Any]:
        path = lab / "hosts.ini"
        path.write_text(text)
        read = inventory.read(str(path), None)
        line = ["ansible-playbook", str(paths.PLAYBOOKS / "observe.yml"), "-i", str(path), "-e", "model=tiny-qwen2"]
        log = io.StringIO()
        with reach.quiet(log):
            controller = reach.Controller([*line, *words], read.hosts, read.manager, read.loader)
            return [each for each in reach.look(read.hosts, controller.call) if not isinstance(each, reach.Silent)]

    return look


def host(**variables: object) -> str:
    """One host, with `ansible_` variables; ssh is the lab's."""
    words = " ".join(f"ansible_{name}='{value}'" for name, value in variables.items())
    return f"x accelerator=cpu {words}\n"


CONNECTIONS: dict[str, tuple[dict[str, object], list[str]]] = {
    # name: variables, what ssh must be told
    "address": ({"host": "10.1.2.3"}, ["10.1.2.3"]),
    "port": ({"host": "10.1.2.3", "port": 2222}, ["Port=2222"]),
    "user": ({"user": "ops"}, ['User="ops"']),
    "key": ({"ssh_private_key_file": "/keys/ops"}, ['IdentityFile="/keys/ops"']),
    "common arguments": ({"ssh_common_args": "-o UserKnownHostsFile=/k"}, ["UserKnownHostsFile=/k"]),
    "extra arguments": ({"ssh_extra_args": "-4"}, ["-4"]),
    "jump host": ({"ssh_common_args": "-J ops@gate:22"}, ["-J", "ops@gate:22"]),
    "proxy command": ({"ssh_common_args": '-o ProxyCommand="ssh -W %h:%p gate"'}, ["ProxyCommand=ssh -W %h:%p gate"]),
    "own arguments": ({"ssh_args": "-o Compression=no"}, ["Compression=no"]),
    "host keys unchecked": ({"ssh_host_key_checking": "false"}, ["StrictHostKeyChecking=no"]),
    "time limit": ({"ssh_timeout": 3}, ["ConnectTimeout=3"]),
}


@pytest.mark.parametrize("name", CONNECTIONS)
def test_connection_of_the_inventory_is_honoured(name: str, lab: Path, looks: Looks) -> None:
    variables, told = CONNECTIONS[name]
    (looked,) = looks(host(**variables))
    assert isinstance(looked, reach.Looked), looked
    assert looked.observation.accelerator == "cpu"
    arguments = (lab / "arguments").read_text().splitlines()
    for word in told:
        assert word in arguments


def test_connection_is_kept_for_the_steps_where_ansible_keeps_it(lab: Path, looks: Looks) -> None:
    looks(host(host="10.1.2.3", port=22, user="ops"))
    arguments = (lab / "arguments").read_text().splitlines()
    from ansible.plugins.connection.ssh import Connection

    name = Connection._create_control_path("10.1.2.3", 22, "ops").rpartition("/")[2]
    assert any(word.startswith("ControlPath=") and name in word for word in arguments)
    assert "ControlMaster=auto" in arguments


def test_variables_of_groups_and_of_the_line_count(lab: Path, looks: Looks) -> None:
    (lab / "group_vars").mkdir()
    (lab / "group_vars" / "all.yml").write_text('deployer_port: 8100\ndeployer_deployment: \'{{ "a" ~ "b" }}\'\n')
    (looked,) = looks(host(), "-e", "deployer_port=8200")
    assert (looked.settings.port, looked.settings.deployment, looked.settings.model) == (8200, "ab", "tiny-qwen2")


def test_second_look_in_a_process_has_its_own_words(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    (lab / "hosts.ini").write_text(host())
    (lab / "more.yml").write_text("deployer_port: 8200\n")
    read = inventory.read("hosts.ini", None)
    ports = []
    for word in ("deployer_port=8100", "@more.yml"):
        line = ["ansible-playbook", str(paths.PLAYBOOKS / "observe.yml"), "-i", "hosts.ini", "-e", word]
        prepared = reach.Controller(line, read.hosts, read.manager, read.loader).call("x")
        assert isinstance(prepared, call.Call), prepared
        ports.append(prepared.settings.port)
    assert ports == [8100, 8200]


@pytest.mark.parametrize("local", ["ansible_connection=local", "ansible_connection=ansible.builtin.local"])
def test_local_connection(local: str, lab: Path, looks: Looks) -> None:
    (looked,) = looks(f"x {local}\n")
    assert isinstance(looked, reach.Looked), looked
    assert looked.settings.is_local
    assert not (lab / "runs").exists()


@pytest.mark.parametrize("connection", ["", "ansible_connection=local"])
def test_become_with_a_password(connection: str, lab: Path, looks: Looks) -> None:
    (looked,) = looks(host(become="true", become_user="daemon", become_password="right").strip() + f" {connection}\n")
    assert isinstance(looked, reach.Looked), looked
    assert "right" not in (lab / "sudo-arguments").read_text()


def test_become_with_the_password_of_a_file(lab: Path, looks: Looks) -> None:
    (lab / "secret").write_text("right\n")
    (looked,) = looks(host(become="true"), "--become-password-file", str(lab / "secret"))
    assert isinstance(looked, reach.Looked), looked


def test_become_without_a_password(lab: Path, looks: Looks) -> None:
    (lab / "sudo").unlink()
    (lab / "sudo").write_text('#!/bin/sh\nfor last; do :; done\nexec /bin/sh -c "$last"\n')
    (lab / "sudo").chmod(0o755)
    (looked,) = looks(host(become="true"))
    assert isinstance(looked, reach.Looked), looked


UNSURE: dict[str, tuple[dict[str, object], str, str]] = {
    # name: variables, what ssh does first, what is noted
    "sudo that wants a terminal": (
        {"become": "true"}, "echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1", "must have a tty"
    ),
    "no answer at all": ({}, "exit 0", "no output"),
    "a shell that is none": ({}, "echo This account is currently not available.; exit 1", "not available"),
    "door closed on too many": ({}, "echo Connection closed by 10.0.0.1 port 22 >&2; exit 255", "Connection closed"),
    "undefined variable": ({"user": "{{ nobody }}"}, "", "nobody"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSURE)
def test_whatever_is_unusual_is_left_to_the_normal_path(
    name: str, lab: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, before, noted = UNSURE[name]
    (lab / "before").write_text(before)
    monkeypatch.setattr(channel, "MAX_ANSWER", 1_000_000)
    (failed,) = looks(host(**variables))
    assert isinstance(failed, reach.Failed), failed
    assert failed.status == "unsure"
    assert noted in failed.message


ASKPASS = """
[ "$("$SSH_ASKPASS" "ops@x's password: ")" = right ] && exec /bin/sh -c "${@: -1}"
echo 'ops@x: Permission denied (publickey,password).' >&2; exit 255
"""


@pytest.mark.parametrize("way", ["variable", "file"])
def test_login_with_a_password(way: str, lab: Path, looks: Looks) -> None:
    (lab / "before").write_text(ASKPASS)
    (lab / "secret").write_text("right\n")
    words = ["--connection-password-file", str(lab / "secret")] if way == "file" else []
    (looked,) = looks(host(**({} if words else {"password": "right"})), *words)
    assert isinstance(looked, reach.Looked), looked
    assert "right" not in (lab / "arguments").read_text()
    assert (lab / "runs").read_text() == "run\n"
    # Other programs of the machine have such segments too, and large ones.
    assert not [each for each in Path("/dev/shm").glob("psm_*") if each.stat().st_size < 65536]


def test_wrong_password_is_tried_once(lab: Path, looks: Looks) -> None:
    (lab / "before").write_text(ASKPASS)
    (failed,) = looks(host(password="wrong"))
    assert failed.status == "unreachable"
    assert failed.message.endswith("Permission denied (publickey,password).")
    assert (lab / "runs").read_text() == "run\n"
    assert "NumberOfPasswordPrompts=1" in (lab / "arguments").read_text()


def test_password_that_another_program_hands_on_is_the_plugin_s(lab: Path, looks: Looks) -> None:
    # Ansible's own way for it, as ansible.cfg chose; here it finds no sshpass, or one that is given a pipe.
    (lab / "sshpass").write_text(
        '#!/bin/bash\nread -r given < /dev/fd/${1#-d}\n[ "$given" = right ] && exec "${@:2}"\n'
    )
    (lab / "sshpass").chmod(0o755)
    (looked,) = looks(host(password="right", ssh_password_mechanism="sshpass"))
    assert isinstance(looked, reach.Looked), looked


REFUSED_BY_SUDO = {
    # name: variables, what sudo or the shell says, the message
    "wrong password": ({"become_password": "wrong"}, "", "Incorrect sudo password"),
    "no password": ({}, "sudo: a password is required", "Missing sudo password"),
    "not in sudoers": (
        {"become_password": "right"},
        "ops is not in the sudoers file.  This incident will be reported.",
        "ops is not in the sudoers file.  This incident will be reported.",
    ),
    "no sudo": ({}, "bash: line 1: sudo: command not found", "bash: line 1: sudo: command not found"),
}


@pytest.mark.parametrize("name", REFUSED_BY_SUDO)
def test_sudo_that_lets_nobody_in_is_not_asked_again(name: str, lab: Path, looks: Looks) -> None:
    variables, said, message = REFUSED_BY_SUDO[name]
    if said:
        (lab / "before").write_text(f"echo '{said}' >&2; exit 1")
    (failed,) = looks(host(become="true", **variables))
    assert (failed.status, failed.message) == ("unreachable", message)
    assert (lab / "runs").read_text() == "run\n"


def test_host_behind_a_busy_door_is_asked_once_more(lab: Path, looks: Looks) -> None:
    # As a jump host with MaxStartups does to the last of many.
    (lab / "before").write_text(
        'seen="$LAB/seen-$(echo "$*" | grep -o "10\\.0\\.0\\.[0-9]" | head -n 1)"\n'
        '[ -e "$seen" ] || { touch "$seen"; echo "kex_exchange_identification: Connection closed" >&2; exit 255; }'
    )
    text = "".join(f"h{n} ansible_host=10.0.0.{n} accelerator=cpu\n" for n in range(8))
    found = looks(text)
    assert sorted(each.host for each in found) == [f"h{n}" for n in range(8)]
    assert {type(each) for each in found} == {reach.Looked}
    assert (lab / "runs").read_text().count("run") == 16


def test_host_that_is_down_has_ansible_s_words(lab: Path, looks: Looks) -> None:
    (lab / "before").write_text("echo 'ssh: connect to host x port 22: No route to host' >&2; exit 255")
    (failed,) = looks(host())
    assert failed.status == "unreachable"
    assert failed.message == "Failed to connect to the host via ssh: ssh: connect to host x port 22: No route to host"


def test_wrong_setting_is_told_and_not_tried_again(lab: Path, looks: Looks) -> None:
    (failed,) = looks(f"{host().strip()} deployer_port=99999\n")
    assert failed.status == "failed"
    assert "deployer_port" in failed.details["message"]
    assert not (lab / "runs").exists()


def test_host_that_hangs_delays_nobody_and_leaves_nothing(lab: Path, looks: Looks) -> None:
    (lab / "before").write_text('case "$*" in *10.0.0.9*) echo $$ > "$LAB/pid"; sleep 1000 & wait;; esac')
    text = "".join(f"h{n} ansible_host=10.0.0.{n} accelerator=cpu\n" for n in (9, 1, 2))
    found = looks(text, "-e", "deployer_observe_timeout_s=4")
    assert [type(each) for each in found] == [reach.Looked, reach.Looked, reach.Failed]
    assert (found[2].host, found[2].status) == ("h9", "unreachable")
    assert found[2].message.startswith("no answer within 4 s")
    assert not Path(f"/proc/{(lab / 'pid').read_text().strip()}").exists()


def test_ssh_that_stays_open_for_later_steps_is_not_waited_for(lab: Path, looks: Looks) -> None:
    # As ControlPersist does: a child keeps stderr when ssh itself has ended.
    (lab / "before").write_text('setsid sleep 60 > /dev/null < /dev/null & echo $! > "$LAB/kept"')
    begin = time.monotonic()
    (looked,) = looks(host())
    assert isinstance(looked, reach.Looked), looked
    assert time.monotonic() - begin < 50
    os.kill(int((lab / "kept").read_text()), 15)


def test_wrong_word_after_the_dashes(looks: Looks) -> None:
    with pytest.raises(UsageError, match="unrecognized arguments: --nonsense"):
        looks(host(), "--nonsense")


@pytest.mark.parametrize("words", [["-k"], ["-K"], ["-vvv"], ["-i", "other.ini"], ["--list-tasks"], ["--step"]])
def test_other_kinds_of_runs_are_ansible_s(words: list[str], looks: Looks) -> None:
    with pytest.raises(reach.NotHereError):
        looks(host(), *words)


def test_vaulted_variable(lab: Path, looks: Looks) -> None:
    from ansible.parsing.vault import VaultLib, VaultSecret

    (lab / "vault").write_text("key\n")
    text = VaultLib([("default", VaultSecret(b"key"))]).encrypt("a-key-of-sixteen-letters").decode()
    (lab / "group_vars").mkdir()
    (lab / "group_vars" / "all.yml").write_text(
        "deployer_api_key: !vault |\n" + "".join(f"  {line}\n" for line in text.splitlines())
    )
    (looked,) = looks(host(), "--vault-id", str(lab / "vault"))
    assert looked.settings.api_key is not None


def test_host_that_prints_for_ever_has_failed(lab: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not unsure: Ansible would keep all of it in memory, and the others would wait for that."""
    (lab / "before").write_text('case "$*" in *10.0.0.9*) exec yes;; esac')
    monkeypatch.setattr(channel, "MAX_ANSWER", 1_000_000)
    text = "".join(f"h{n} ansible_host=10.0.0.{n} accelerator=cpu\n" for n in (9, 1))
    found = {each.host: each for each in looks(text)}
    assert isinstance(found["h1"], reach.Looked)
    assert (found["h9"].status, found["h9"].details["kind"]) == ("failed", "ProbeError")
    assert "where one answer was asked" in found["h9"].message
    assert "/etc/profile" in found["h9"].details["remedy"]


PLUGINS = {
    "as local and docker do": """
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        done = subprocess.Popen(["sh", "-c", words], **pipes)
        out, err = done.communicate(b"")
        return done.returncode, out, err
""",
    "as ssh does": """
        done = subprocess.Popen(["sh", "-c", words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said = {done.stdout: b"", done.stderr: b""}
        with selectors.DefaultSelector() as selector:
            for stream in said:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    chunk = key.fileobj.read()
                    said[key.fileobj] += chunk or b""
                    if chunk == b"":
                        selector.unregister(key.fileobj)
        return done.wait(), said[done.stdout], said[done.stderr]
""",
    "with an error of its own": """
        done = subprocess.run(["sh", "-c", words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        return done.returncode, done.stdout, done.stderr
""",
}
COMMANDS = {
    "yes": "failed",
    "yes >&2": "failed",
    "echo quiet": "",
    "echo noise >&2": "",
    "head -c 400000 /dev/zero | tr '\\0' x": "",
}


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("name", PLUGINS)
def test_program_of_a_plugin_prints_no_more_than_the_limit(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin of whatever kind keeps all that its program says: what it may say is bounded."""
    from deployer import catalog, observe

    code = f"class Plugin:\n    become = None\n    def exec_command(self, words, sudoable=True):{PLUGINS[name]}"
    module: dict[str, Any] = {"subprocess": subprocess, "selectors": selectors, "os": os}
    exec(code, module)
    monkeypatch.setattr(channel, "MAX_ANSWER", 1_000_000)
    asked = call.Call("x", module["Plugin"](), words, False, catalog.load(), observe.Settings())
    answer = channel.send(asked, 20)
    assert bool(answer.failed) is (COMMANDS[words] == "failed"), answer
    assert not answer.unsure
    if not answer.failed:
        plain = subprocess.run(["sh", "-c", words], capture_output=True, check=True, text=True)
        assert (answer.stdout, answer.stderr) == (plain.stdout, plain.stderr)


class Stub:
    """Ansible's connection, as far as the channel looks at it."""

    become = None

    def __init__(self, answer: Callable[[], tuple[int, bytes, bytes]]) -> None:
        self.exec_command = lambda *_, **__: answer()


def test_every_host_gets_one_answer_whatever_its_plugin_raises() -> None:
    from ansible.errors import AnsibleConnectionFailure

    from deployer import catalog, observe

    def raises(error: Exception) -> Callable[[], tuple[int, bytes, bytes]]:
        def answer() -> tuple[int, bytes, bytes]:
            raise error

        return answer

    answers: dict[str, Callable[[], tuple[int, bytes, bytes]]] = {
        "down": raises(AnsibleConnectionFailure("down")),
        "odd": raises(RuntimeError("odd")),
        "noise": lambda: (0, b"\xff\xfe", b""),
        "lies": lambda: (0, b"<<<deployer-observation {} deployer-observation>>>", b""),
    }
    known = catalog.load()

    def prepare(name: str) -> call.Call:
        return call.Call(name, Stub(answers[name]), "true", False, known, observe.Settings())

    found = {each.host: each.status for each in fleet.look(list(answers), prepare) if isinstance(each, reach.Failed)}
    assert found == {"down": "unreachable", "odd": "unsure", "noise": "unsure", "lies": "failed"}


def test_no_more_hosts_at_a_time_than_asked() -> None:
    from deployer import catalog, observe

    known, now, most = catalog.load(), set[str](), []

    def prepare(name: str) -> call.Call:
        def answer() -> tuple[int, bytes, bytes]:
            now.add(name)
            most.append(len(now))
            now.discard(name)
            return 1, b"", b""

        return call.Call(name, Stub(answer), "true", False, known, observe.Settings())

    names = [str(number) for number in range(50)]
    assert len(list(fleet.look(names, prepare, slots=1))) == len(names)
    assert max(most) == 1


def test_record_of_a_look_is_one_json_line(looks: Looks) -> None:
    (looked,) = looks(host())
    assert json.loads(looked.observation.model_dump_json())["host"] == "x"
