"""`deployer restart`: `up`, with a restart of what serves already."""

from __future__ import annotations

from dataclasses import replace

import click

from deployer.cli.deployments import model_of, resolve
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import open_session
from deployer.cli.up import bring_up
from deployer.errors import UsageError


@click.command(cls=HostCommand)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@host_options()
def command(options: HostOptions, yes: bool) -> int:
    """Restart a deployment on each host, and verify it.

    What else is missing is done too, as by `up`. Without --model and --deployment, the only one there is.

    \b
    deployer restart -i inventories/local --yes
    """
    with open_session(options, keep_record=True) as session:
        if not options.model:
            session.observe()
            deployment = resolve(session, options)
            if deployment is None:
                raise UsageError("nothing is deployed on these hosts", "`deployer up` deploys")
            model = model_of(session, deployment)
            session.options = replace(options, model=model, deployment=deployment)
        return bring_up(session, yes, {"deployer_restart": "true"})
