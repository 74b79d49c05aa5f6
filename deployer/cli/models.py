"""`deployer models`: what the catalog knows."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from deployer import catalog as catalogs
from deployer.catalog import Accelerator, Catalog, Model
from deployer.catalog.schema import Build, Placement
from deployer.cli.console import print_json, result_console
from deployer.units import gb


@click.command()
@click.argument("name", required=False)
@click.option("-i", "--inventory", metavar="PATH", help="Take the `catalog` directory next to this inventory too.")
@click.option("--catalog", "directory", metavar="DIR", help="Catalog overlay.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(name: str | None, inventory: str | None, directory: str | None, as_json: bool) -> int:
    """List the models of the catalog, where they run, and which this version can deploy.

    With a NAME, that model, and what it was compiled for: chips, tokens, and the memory that it takes of each chip.

    \b
    deployer models
    deployer models qwen2.5-14b
    deployer models --json | jq '.models[].name'
    """
    catalog = catalogs.load(catalogs.overlay_directories(inventory, directory))
    models = [catalog.model(name)] if name else list(catalog.models.values())
    if as_json:
        print_json({"models": [_public(catalog, model) for model in models]})
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("model", "parameters", "weights", "accelerator", "memory share", "chips", "now", ""):
        table.add_column(column, overflow="fold")
    for model in sorted(models, key=lambda each: (not catalog.deployable(each), each.name)):
        for accelerator, placement in model.accelerators.items():
            ready = catalog.accelerators[accelerator].has_roles
            table.add_row(
                model.name,
                _parameters(model.parameters),
                gb(model.weights.size),
                accelerator,
                "" if placement.memory_utilization is None else str(placement.memory_utilization),
                _chips(placement),
                Text("yes", "green") if ready else Text("not yet", "dim"),
                Text("RANDOM weights, for a first try", "yellow") if model.random_weights else "",
            )
    result_console().print(table)
    if name:
        _print_builds(catalog, models[0])
    return 0


def _print_builds(catalog: Catalog, model: Model) -> None:
    """A table of builds for each accelerator that has some; the first is taken where nobody asks for another."""
    for accelerator, placement in model.accelerators.items():
        if not placement.builds:
            continue
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("deployer_build", "chips", "tokens", "weights as", "MiB of each chip", "fits", "from"):
            table.add_column(column, overflow="fold")
        for build in placement.builds:
            facts = _build(catalog.accelerators[accelerator], model, build)
            need = f"{facts['memory_mib']} {'measured' if facts['measured'] else 'estimated'}"
            fits = Text("no", "red") if facts["problem"] else Text("yes", "green")
            origin = "the vendor" if build.url else "your own compilation"
            table.add_row(build.name, str(build.chips), str(build.length), build.precision, need, fits, origin)
        console = result_console()
        runtimes = " or ".join((placement.runtime, *placement.runtimes))
        console.print(Text(f"\non {accelerator}, with deployer_runtime {runtimes}:"), soft_wrap=True)
        console.print(table)


def _build(accelerator: Accelerator, model: Model, build: Build) -> dict[str, object]:
    """What a build takes of each chip, and why it does not fit; empty where it does, or nobody knows the chip."""
    # Only here: the planner's package takes a tenth of a second to import.
    from deployer.plan import memory

    need = memory.needed(model, build)
    chip = accelerator.chip_memory_mib
    problem = memory.verdict(model, build, chip, accelerator.memory_spare_mib) if chip else ""
    return {"memory_mib": need.mib, "measured": need.measured, "problem": problem}


def _public(catalog: Catalog, model: Model) -> dict[str, object]:
    document = model.model_dump(mode="json") | {"deployable_on": catalog.deployable(model)}
    for accelerator, placement in model.accelerators.items():
        for build, shown in zip(placement.builds, document["accelerators"][accelerator]["builds"], strict=True):
            shown |= _build(catalog.accelerators[accelerator], model, build)
    return document


def _chips(placement: Placement) -> str:
    """`4 (asked: 2)`: what is taken, in that order, and what else can be asked for."""
    taken = " or ".join(map(str, placement.tensor_parallel))
    asked = ", ".join(map(str, placement.tensor_parallel_asked))
    return f"{taken} (asked: {asked})" if asked else taken


def _parameters(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count >= 1e8 else f"{count / 1e6:.1f} M"
