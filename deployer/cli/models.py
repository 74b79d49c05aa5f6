"""`deployer models`: what the catalog knows."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from deployer import catalog as catalogs
from deployer.catalog import Catalog, Model
from deployer.cli.console import print_json, result_console
from deployer.units import gb


@click.command()
@click.option("-i", "--inventory", metavar="PATH", help="Take the `catalog` directory next to this inventory too.")
@click.option("--catalog", "directory", metavar="DIR", help="Catalog overlay.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(inventory: str | None, directory: str | None, as_json: bool) -> int:
    """List the models of the catalog, where they run, and which this version can deploy.

    \b
    deployer models
    deployer models --json | jq '.models[].name'
    """
    catalog = catalogs.load(catalogs.overlay_directories(inventory, directory))
    if as_json:
        print_json({"models": [_public(catalog, model) for model in catalog.models.values()]})
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("model", "parameters", "weights", "accelerator", "memory share", "chips", "now", ""):
        table.add_column(column, overflow="fold")
    for model in sorted(catalog.models.values(), key=lambda each: (not catalog.deployable(each), each.name)):
        for accelerator, placement in model.accelerators.items():
            ready = catalog.accelerators[accelerator].has_roles
            table.add_row(
                model.name,
                _parameters(model.parameters),
                gb(model.weights.size),
                accelerator,
                "" if placement.memory_utilization is None else str(placement.memory_utilization),
                " or ".join(map(str, placement.tensor_parallel)),
                Text("yes", "green") if ready else Text("not yet", "dim"),
                Text("RANDOM weights, for a first try", "yellow") if model.random_weights else "",
            )
    result_console().print(table)
    return 0


def _public(catalog: Catalog, model: Model) -> dict[str, object]:
    return model.model_dump(mode="json") | {"deployable_on": catalog.deployable(model)}


def _parameters(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count >= 1e8 else f"{count / 1e6:.1f} M"
