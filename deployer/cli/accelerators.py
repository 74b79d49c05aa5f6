"""`deployer accelerators`: what the catalog knows."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from deployer import catalog as catalogs
from deployer.catalog import Accelerator
from deployer.cli.console import print_json, result_console


@click.command()
@click.option("-i", "--inventory", metavar="PATH", help="Take the `catalog` directory next to this inventory too.")
@click.option("--catalog", "directory", metavar="DIR", help="Catalog overlay.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(inventory: str | None, directory: str | None, as_json: bool) -> int:
    """List the accelerators of the catalog and which this version can deploy to.

    \b
    deployer accelerators
    """
    catalog = catalogs.load(catalogs.overlay_directories(inventory, directory))
    if as_json:
        print_json({"accelerators": [each.model_dump(mode="json") for each in catalog.accelerators.values()]})
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("accelerator", "title", "PCI", "chip memory", "dtypes", "models", "now"):
        table.add_column(column, overflow="fold")
    for each in catalog.accelerators.values():
        table.add_row(
            each.name,
            each.title,
            ", ".join(dict.fromkeys(f"{pci.vendor}:{pci.device or '*'}" for pci in each.pci)) or "none needed",
            _memory(each),
            ", ".join(each.dtypes),
            str(sum(each.name in model.accelerators for model in catalog.models.values())),
            Text("yes", "green") if each.has_roles else Text("not yet", "dim"),
        )
    result_console().print(table)
    return 0


def _memory(accelerator: Accelerator) -> str:
    if accelerator.chip_memory_mib:
        return f"{accelerator.chip_memory_mib} MiB"
    return "as its tool says" if accelerator.pci else "the host's"
