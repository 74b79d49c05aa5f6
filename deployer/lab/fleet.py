"""The lab's containers: made, started, rebooted, broken and removed."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import secrets
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from deployer.errors import UsageError
from deployer.lab import docker_engine, engine, faults, images, packages, site, weights
from deployer.lab.images import LabError, Say
from deployer.paths import state_dir

BOOT_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30
# What a server with these cards has; the containers see the machine's own, which says nothing of it.
MEMORY_KIB = 512 * 2**20
# Ids of cards as npu-smi gives them to slots: hardly ever 0, 1, 2 …
CARD_IDS = {1: (8,), 2: (1, 4), 3: (1, 2, 5), 4: (1, 2, 4, 5)}
FACTORY_FIRMWARE = "7.1.0.5.220"
TX8_WEIGHTS = "qwen2.5-7b"
WEIGHTS_DIR = "/home/ckpt/{{ deployer_model }}"
SUBNETS = 64
# Where a fault has changed it: the one before.
KNOWN_KEY = "cat /etc/ssh/before-lab/*ed25519_key.pub 2> /dev/null || cat /etc/ssh/ssh_host_ed25519_key.pub"
# Without those that look alike.
LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
LENGTH = 16


@dataclass(frozen=True)
class HostStatus:
    """One host of the lab."""

    state: str
    address: str
    flavour: str
    accelerator: str
    cards: int
    login: str
    faults: tuple[str, ...]


class Lab:
    """One lab, by its name; what it is made of stands in its directory and in its containers' labels."""

    def __init__(self, name: str, say: Say) -> None:
        self.name, self.say = name, say
        self.directory = state_dir() / "lab" / name
        self.client = docker_engine.connect()

    # up and down

    def up(self, inventory: str) -> Path:
        """Make and start every host of the inventory; those that are there already stay as they are."""
        wanted = site.read(inventory)
        self.directory.mkdir(parents=True, exist_ok=True)
        hosts = self._hosts()
        for name in hosts:
            if name not in wanted.hosts:
                raise UsageError(
                    f"lab {self.name!r} has the host {name}, which is not in {inventory}",
                    "`deployer lab down` first, or give this lab another --name",
                )
        kinds = {each.accelerator for each in wanted.hosts.values()} - {"cpu"}
        host_images = {
            f: images.host_image(self.client, f, self.say) for f in {w.flavour for w in wanted.hosts.values()}
        }
        brought = {kind: self._packages(kind) for kind in kinds}
        lent = engine.site_packages(self.say) if kinds else None
        self._key()
        network = self._network()
        for name, each in wanted.hosts.items():
            if name not in hosts:
                self.say(f"starting {name} ({each.flavour}, {_cards(each)})")
                self._create(each, host_images[each.flavour], network, lent)
            container = self._container(name)
            if container.status != "running" and "host-down" not in self._faults(name):
                container.start()
            if each.accelerator in brought:
                packages.lend(brought[each.accelerator], self.directory / "packages" / name)
        addresses = {name: self._wait(name) for name in wanted.hosts}
        self._known_hosts({name: addresses[name] for name, each in wanted.hosts.items() if each.host_key == "known"})
        return site.write(
            wanted, self.directory, {name: self._variables(each, addresses) for name, each in wanted.hosts.items()}
        )

    def down(self) -> list[str]:
        """Remove the lab's containers, network and directory; returns the hosts that were there."""
        hosts = self._hosts()
        for container in hosts.values():
            container.remove(force=True, v=True)
        for network in self._networks():
            network.remove()
        shutil.rmtree(self.directory, ignore_errors=True)
        return list(hosts)

    # while it is up

    def status(self) -> dict[str, HostStatus]:
        """Each host's state, address and faults."""
        found = {}
        for name, container in self._hosts().items():
            labels = container.labels
            found[name] = HostStatus(
                state=container.status,
                address=labels[f"{docker_engine.LABEL}.address"],
                flavour=labels[f"{docker_engine.LABEL}.flavour"],
                accelerator=labels[f"{docker_engine.LABEL}.accelerator"],
                cards=int(labels[f"{docker_engine.LABEL}.cards"]),
                login=labels[f"{docker_engine.LABEL}.login"],
                faults=tuple(sorted(self._faults(name))),
            )
        return found

    @property
    def inventory(self) -> Path:
        """The lab's inventory."""
        return self.directory / "inventory.yml"

    @property
    def password(self) -> Path:
        """The file with the password of the hosts that ask for one."""
        return self.directory / "password"

    def reboot(self, host: str) -> None:
        """Stop the host, start it again, and wait until its sshd answers."""
        container = self._container(host)
        container.restart(timeout=STOP_TIMEOUT_S)
        self._wait(host)

    def fault(self, host: str, text: str, on: bool) -> None:
        """Switch a fault of a host on or off."""
        name, fault, argument = faults.parse(text)
        container = self._container(host)
        if fault.place == "container":
            container.stop(timeout=STOP_TIMEOUT_S) if on else container.start()
        elif fault.place == "packages":
            kind = container.labels[f"{docker_engine.LABEL}.accelerator"]
            packages.lend(self._packages(kind), self.directory / "packages" / host)
            wrong = self._faults(host) - {name} | ({name} if on else set())
            packages.spoil(self.directory / "packages" / host, wrong)
        else:
            self._run(container, ["/usr/local/lib/lab/fault", "on" if on else "off", name, argument])
        switched = self._faults(host)
        (switched.add if on else switched.discard)(name)
        self._keep_faults(host, switched)
        if not on and name == "reboot-never-back":
            container.restart(timeout=STOP_TIMEOUT_S)
        if not on and (name == "reboot-never-back" or fault.place == "container"):
            self._wait(host)

    def execute(self, host: str, words: list[str]) -> tuple[int, str]:
        """Run a command on a host, past SSH: exit status and output."""
        done = self._container(host).exec_run(words)
        return int(done.exit_code), done.output.decode("utf-8", "replace")

    # parts

    def _create(self, wanted: site.Wanted, image: str, network: Any, lent: Path | None) -> None:
        address = self._free_address(network)
        label = docker_engine.LABEL
        options = docker_engine.host_options()
        if lent:
            options["Binds"] = [f"{lent}:/opt/lab-engine:ro"]
        name = f"deployer-lab-{self.name}-{wanted.name}"
        self.client.api.create_container(
            image, name=name, hostname=wanted.name, volumes=["/var/lib/docker"], host_config=options,
            labels={
                label: self.name, f"{label}.host": wanted.name, f"{label}.address": address,
                f"{label}.flavour": wanted.flavour, f"{label}.accelerator": wanted.accelerator,
                f"{label}.cards": str(wanted.cards if wanted.accelerator != "cpu" else 0),
                f"{label}.login": wanted.login,
            },
            networking_config={
                "EndpointsConfig": {network.name: {"IPAMConfig": {"IPv4Address": address}, "Aliases": [wanted.name]}}
            },
        )  # fmt: skip
        container = self.client.containers.get(name)
        memory = f"MemTotal: {MEMORY_KIB} kB\nMemFree: {MEMORY_KIB // 2} kB\nMemAvailable: {MEMORY_KIB * 3 // 4} kB\n"
        images.write_file(container, "/etc/lab/meminfo", memory.encode())
        public = (self.directory / "key.pub").read_bytes()
        if wanted.accelerator.startswith("ascend"):
            images.write_file(container, "/etc/lab/ascend.json", json.dumps({"cards": _ascend_cards(wanted)}).encode())
            self._copy_weights(container, wanted)
        if wanted.accelerator == "tx8":
            document = {"cards": wanted.cards, "smi": wanted.smi}
            images.write_file(container, "/etc/lab/tx8.json", json.dumps(document).encode())
        if wanted.accelerator == "bm1684x":
            images.write_file(container, "/etc/lab/sophon.json", json.dumps({"cards": _sophon_cards(wanted)}).encode())
        # Never on a command line, where whoever looks at this machine's processes would see it.
        secret = f"{self._password()}\n".encode() if wanted.login == "password" else public
        login = f"{wanted.login} {wanted.user}\n".encode() + secret
        images.write_file(container, "/etc/lab/first-boot/login", login, 0o600)
        images.write_file(container, "/etc/lab/first-boot/repository", f"{wanted.repository}\n".encode())
        container.start()

    def _password(self) -> str:
        """The lab's password, made once: letters and digits, so that everybody can type it."""
        if not self.password.is_file():
            made = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
            self.password.touch(0o600)
            self.password.write_text(f"{made}\n", encoding="ascii")
        return self.password.read_text(encoding="ascii").strip()

    def _copy_weights(self, container: Any, wanted: site.Wanted) -> None:
        """Tiny weights of every model, where the inventory says that weights are."""
        place = str(wanted.variables.get("deployer_weights_dir", WEIGHTS_DIR))
        for model in weights.MODELS:
            store = _weights(model)
            target = re.sub(r"\{\{.*?\}\}", model, place).rstrip("/")
            parent, _, last = target.rpartition("/")
            if target == place.rstrip("/") and last.lower() not in weights.names(model):
                continue
            if last != model:
                images.write_tree(container, target, store)
                continue
            # The hub's download has the hub's name; the operator's link has the one that the inventory names.
            images.write_tree(container, f"{parent}/{weights.published(model)}", store)
            images.write_link(container, target, weights.published(model))

    def _variables(self, wanted: site.Wanted, addresses: dict[str, str]) -> dict[str, Any]:
        known = self.directory / "known_hosts"
        own: dict[str, Any] = {
            "ansible_host": addresses[wanted.name],
            "ansible_user": wanted.user,
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
        }
        if wanted.login == "key":
            own["ansible_ssh_private_key_file"] = str(self.directory / "key")
        if wanted.accelerator != "cpu":
            own["deployer_packages_dir"] = str(self.directory / "packages" / wanted.name)
        if wanted.accelerator.startswith("ascend"):
            own["deployer_weights_dir"] = wanted.variables.get("deployer_weights_dir", WEIGHTS_DIR)
        return own

    def _packages(self, kind: str) -> Path:
        architecture = platform.machine()
        host = images.tools_image(self.client, self.say)
        if kind == "tx8":
            model = _weights(TX8_WEIGHTS)
            place = state_dir() / "lab" / "packages" / "tx8-4.3.7.p3"
            return packages.make_tx8(self.client, host, images.tx8_image(self.client, self.say), model, place, self.say)
        if kind == "bm1684x":
            tools = images.sophon_image(self.client, self.say)
            return packages.make_sophon(self.client, host, tools, state_dir() / "lab" / "packages", self.say)
        serving = images.serving_image(self.client, architecture, self.say)
        return packages.make(self.client, host, serving, architecture, state_dir() / "lab" / "packages", self.say)

    def _key(self) -> None:
        if not (self.directory / "key").is_file():
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"deployer-lab-{self.name}"]
            subprocess.run([*words, "-f", str(self.directory / "key")], check=True)

    def _known_hosts(self, addresses: dict[str, str]) -> None:
        lines = []
        for name, address in addresses.items():
            _, key = self.execute(name, ["sh", "-c", KNOWN_KEY])
            lines.append(f"{address} {' '.join(key.split()[:2])}\n")
        (self.directory / "known_hosts").write_text("".join(lines), encoding="ascii")

    def _networks(self) -> list[Any]:
        return list(self.client.networks.list(filters={"label": f"{docker_engine.LABEL}={self.name}"}))

    def _network(self) -> Any:
        found = self._networks()
        if found:
            return found[0]
        # Docker keeps addresses across restarts only in a subnet that was asked for.
        refusal = ""
        for third in range(SUBNETS):
            pool = IPAMPool(subnet=f"172.29.{third}.0/24")
            try:
                return self.client.networks.create(
                    f"deployer-lab-{self.name}",
                    labels={docker_engine.LABEL: self.name},
                    ipam=IPAMConfig(pool_configs=[pool]),
                )
            except APIError as error:
                refusal = str(error.explanation)
        raise LabError(
            f"Docker gives the lab no network in 172.29.0.0/16: {refusal}", "remove networks that are not used"
        )

    def _free_address(self, network: Any) -> str:
        network.reload()
        subnet = network.attrs["IPAM"]["Config"][0]["Subnet"]
        base = subnet.rpartition(".")[0]
        taken = {each.labels.get(f"{docker_engine.LABEL}.address") for each in self._hosts().values()}
        return next(address for number in range(10, 250) if (address := f"{base}.{number}") not in taken)

    def _hosts(self) -> dict[str, Any]:
        found = self.client.containers.list(all=True, filters={"label": f"{docker_engine.LABEL}={self.name}"})
        return {each.labels[f"{docker_engine.LABEL}.host"]: each for each in sorted(found, key=lambda each: each.name)}

    def _container(self, host: str) -> Any:
        hosts = self._hosts()
        if host not in hosts:
            have = f"it has {', '.join(hosts)}" if hosts else "`deployer lab up` makes one"
            raise UsageError(f"lab {self.name!r} has no host {host!r}", have)
        return hosts[host]

    def _run(self, container: Any, words: list[str]) -> None:
        done = container.exec_run(words)
        if done.exit_code != 0:
            raise LabError(
                f"{' '.join(words)} on {container.name}: {done.output.decode('utf-8', 'replace').strip()[-400:]}"
            )

    def _wait(self, host: str) -> str:
        """The host's address, once its sshd answers."""
        container = self._container(host)
        address = str(container.labels[f"{docker_engine.LABEL}.address"])
        if not _until(lambda: _greets(address), BOOT_TIMEOUT_S):
            log = container.logs(tail=8).decode("utf-8", "replace").strip()
            raise LabError(f"{host} did not come up within {BOOT_TIMEOUT_S:.0f} s: {log or 'it said nothing'}")
        return address

    def _all_faults(self) -> dict[str, list[str]]:
        try:
            state = json.loads((self.directory / "faults.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return dict(state)

    def _faults(self, host: str) -> set[str]:
        return set(self._all_faults().get(host, []))

    def _keep_faults(self, host: str, names: set[str]) -> None:
        state = self._all_faults() | {host: sorted(names)}
        (self.directory / "faults.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def _weights(model: str) -> Path:
    """Tiny weights that stand for a model, made once, and again when how they are made has changed."""
    made_by = hashlib.sha256(Path(weights.__file__).read_bytes()).hexdigest()[:12]
    place = state_dir() / "lab" / "weights" / made_by / model
    if not (place / weights.SUMS).is_file():
        weights.make(place, model)
    return place


def _sophon_cards(wanted: site.Wanted) -> list[dict[str, Any]]:
    """Boards and the PCI addresses of their chips, as lspci shows them: functions of one device, or behind a switch."""
    name, chips = site.BOARDS[wanted.board]
    cards = []
    for number in range(wanted.cards):
        first = 0x81 + 0x40 * number
        single = [f"0001:{first:02x}:00.{chip}" for chip in range(chips)]
        switched = [f"0000:{0x41 + 0x10 * number + chip:02x}:00.0" for chip in range(chips)]
        bus = single if wanted.board == "sc7-hp75" else switched
        cards.append({"board": name, "sn": f"HQDZW6FBDJGJE02{16 + number}", "bus": bus})
    return cards


def _cards(wanted: site.Wanted) -> str:
    if wanted.accelerator == "cpu":
        return "no card"
    return f"{wanted.cards} × {wanted.accelerator}"


def _ascend_cards(wanted: site.Wanted) -> list[dict[str, Any]]:
    """The cards in the slots: Atlas 300I Duo, two chips each."""
    return [
        {
            "npu": number, "bus": f"0000:{slot + 1:02x}:00.0", "vendor": "19e5", "device": "d500", "subvendor": "0200",
            "subdevice": "0110", "chips": 2, "serial": _serial(wanted.name, slot),
            "firmware": FACTORY_FIRMWARE,
        }
        for slot, number in enumerate(CARD_IDS[wanted.cards])
    ]  # fmt: skip


def _serial(host: str, slot: int) -> str:
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"{host}/{slot}").hex[:20].upper()


def _greets(address: str) -> bool:
    """Whether an SSH server says its name there."""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
