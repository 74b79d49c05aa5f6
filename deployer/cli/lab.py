"""`deployer lab`: rehearse on containers that look like the inventory's hosts."""

from __future__ import annotations

from typing import Any

import click
from docker.errors import DockerException
from rich.table import Table
from rich.text import Text

from deployer.cli.console import print_json, progress_console, result_console
from deployer.errors import ExitStatus
from deployer.lab.faults import FAULTS
from deployer.lab.fleet import HostStatus, Lab
from deployer.lab.images import LabError

NAME = click.option("--name", default="default", show_default=True, help="Which lab; each has its own hosts.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, and no progress.")


class LabGroup(click.Group):
    """Docker's own errors are told as the lab's."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb of the lab."""
        try:
            return super().invoke(ctx)
        except DockerException as error:
            reason = getattr(error, "explanation", None) or error
            raise LabError(f"Docker: {reason}", "`deployer lab down` removes what is there") from error


@click.group(cls=LabGroup)
def command() -> None:
    """Rehearse a rollout without the hardware: one container per host of an inventory, with emulated accelerators.

    A host has its own sshd, Docker engine and boot id, and cards that behave as the vendor's documents say: nothing of
    it proves that real cards do. What serves is a real engine with tiny random weights. Needs a Docker engine here.

    Which cards a host has, only the inventory's lab_accelerator says, for the host or its group. Others that only the
    lab reads are lab_cards, lab_board, lab_os (openeuler, debian11, debian12, debian13), lab_login (key, password),
    lab_host_key (known, unknown) and lab_repository (local, old, none, unreachable).

    \b
    deployer lab up --inventory inventories/ascend/cluster.ini
    deployer up --inventory "$(deployer lab inventory)" --model qwen2.5-14b --reboot
    deployer lab fault node2 chip-alarm=1
    """


def _lab(name: str, as_json: bool) -> Lab:
    console = progress_console()
    return Lab(name, (lambda _: None) if as_json else (lambda text: console.print(text, markup=False, soft_wrap=True)))


# What each accelerator's hosts have weights of.
MODELS = {
    "ascend-310p": "qwen2.5-14b --reboot", "bm1684x": "qwen2.5-14b", "tx8": "deepseek-r1-distill-qwen-7b",
}  # fmt: skip


def _document(lab: Lab, hosts: dict[str, HostStatus]) -> dict[str, Any]:
    document: dict[str, Any] = {"inventory": str(lab.inventory)}
    if _asking(hosts):
        document["password_file"] = str(lab.password)
    return {**document, "hosts": {host: each.__dict__ for host, each in hosts.items()}}


def _asking(hosts: dict[str, HostStatus]) -> list[str]:
    return [host for host, each in hosts.items() if each.login == "password"]


@command.command()
@click.option("-i", "--inventory", required=True, metavar="PATH", help="The inventory to rehearse; it is only read.")
@NAME
@JSON
def up(inventory: str, name: str, as_json: bool) -> int:
    """Start the hosts, and write an inventory that points at them."""
    lab = _lab(name, as_json)
    path = lab.up(inventory)
    status = lab.status()
    if as_json:
        print_json(_document(lab, status))
    else:
        many = f"{len(status)} hosts are" if len(status) > 1 else f"{next(iter(status))} is"
        console = result_console()
        console.print(f"{many} up. Rehearse with", markup=False)
        kinds = sorted({each.accelerator for each in status.values()})
        for kind in kinds:
            words = MODELS.get(kind, "tiny-qwen2")
            if len(kinds) > 1:
                words += f" --limit {','.join(host for host, each in status.items() if each.accelerator == kind)}"
            console.print(f"  deployer up --inventory {path} --model {words}", markup=False, soft_wrap=True)
        if asking := _asking(status):
            text = f"{', '.join(asking)}: login and sudo ask for the password {lab.password.read_text().strip()}"
            console.print(text, markup=False, soft_wrap=True)
            options = f"--connection-password-file {lab.password} --become-password-file {lab.password}"
            console.print(f"  or give Ansible {options}", markup=False, soft_wrap=True)
    return ExitStatus.OK


@command.command()
@NAME
@JSON
def status(name: str, as_json: bool) -> int:
    """Show the hosts, where they are, and which faults are on."""
    lab = _lab(name, as_json)
    hosts = lab.status()
    if as_json:
        print_json(_document(lab, hosts))
        return ExitStatus.OK
    if not hosts:
        result_console().print(f"lab {name!r} has no hosts; `deployer lab up` makes some", markup=False)
        return ExitStatus.OK
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("host", "state", "address", "system", "cards", "faults"):
        table.add_column(column, overflow="fold")
    for host, each in hosts.items():
        style = "green" if each.state == "running" else "red"
        cards = f"{each.cards} × {each.accelerator}" if each.cards else "none"
        table.add_row(
            Text(host), Text(each.state, style), each.address, each.flavour, cards, Text(", ".join(each.faults), "red")
        )
    result_console().print(table)
    return ExitStatus.OK


@command.command()
@NAME
def inventory(name: str) -> int:
    """Print the path of the lab's inventory."""
    click.echo(_lab(name, as_json=True).inventory)
    return ExitStatus.OK


@command.command()
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@NAME
def reboot(hosts: tuple[str, ...], name: str) -> int:
    """Reboot hosts, as by their power button, and wait until they answer."""
    lab = _lab(name, as_json=False)
    for host in hosts:
        lab.say(f"rebooting {host}")
        lab.reboot(host)
    return ExitStatus.OK


def _list_faults(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        for known, each in FAULTS.items():
            click.echo(f"{known:26} {each.title}")
        ctx.exit()


@command.command()
@click.argument("host")
@click.argument("fault", metavar="NAME[=VALUE]")
@click.option("--off", is_flag=True, help="Lift the fault again.")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_faults, help="List the faults.")
@NAME
def fault(host: str, fault: str, off: bool, name: str) -> int:
    """Switch a fault of a host on, or off again."""
    lab = _lab(name, as_json=False)
    lab.fault(host, fault, on=not off)
    lab.say(f"{host}: {fault} is {'off' if off else 'on'}")
    return ExitStatus.OK


@command.command()
@NAME
@JSON
def down(name: str, as_json: bool) -> int:
    """Remove the lab's containers, network and files. Images and packages stay for the next one."""
    hosts = _lab(name, as_json).down()
    if as_json:
        print_json({"removed": hosts})
    else:
        result_console().print(f"removed {len(hosts)} hosts of lab {name!r}", markup=False)
    return ExitStatus.OK
