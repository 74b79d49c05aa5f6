"""Decides who can use what serves, says so, and refuses what a site does not want. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deployer.catalog import Runtime
from deployer.observe.address import ANYWHERE
from deployer.plan.draft import Draft
from deployer.plan.preflight import LOOPBACK
from deployer.plan.types import Refusal

NONE = {
    "openai": "no document of it names a way to give it a key",
    "gradio": "its page has no login",
    "terminal": "it is a program in a terminal, which nobody reaches from elsewhere",
}
GIVE = "set deployer_api_key (best in a vault) or deployer_api_key_file"


def refused(draft: Draft, listen: str) -> Iterator[Refusal]:
    """A key for what cannot have one, one that is set twice, and none where the site requires it."""
    settings, runtime = draft.settings, draft.runtime
    if settings.api_key and not runtime.api_key:
        yield Refusal(
            check="API key",
            found=f"deployer_api_key for {runtime.title}: {NONE[runtime.protocol]}",
            wanted="an engine that asks for its key",
            remedy="leave the key out for this host, or choose another deployer_runtime",
        )
    elif settings.api_key and runtime.api_key in settings.variables:
        yield Refusal(
            check="API key",
            found=f"deployer_api_key, and {runtime.api_key} among the engine's variables",
            wanted="one key",
            remedy=f"leave {runtime.api_key} out",
        )
    if settings.require_api_key and not draft.key and _can_be_used(draft, listen):
        yield Refusal(
            check="API key",
            found=f"an endpoint that asks nobody for a key, {_where(listen)}",
            wanted="an API key (deployer_require_api_key)",
            remedy=GIVE if runtime.api_key else f"{NONE[runtime.protocol]}: {_without(draft)}",
        )


def told(draft: Draft, listen: str) -> str:
    """Who can use the endpoint, and how that is changed; empty where only this host's own accounts can."""
    runtime = draft.runtime
    if runtime.protocol == "terminal" or listen in LOOPBACK:
        return ""
    if draft.key:
        scope = f"; {runtime.api_key_scope}" if runtime.api_key_scope else ""
        return f"endpoint {_where(listen)}: it asks for the API key{scope}"
    ways = [GIVE] if runtime.api_key else []
    ways += ["set deployer_listen to an address of an inner network"] if _obeys(runtime) else []
    ways += ["let a firewall admit only those who may"]
    return (
        f"open endpoint {_where(listen)}: whoever reaches it can use the model, nobody is asked for a key; "
        f"to close it, {', or '.join(ways)}"
    )


def _can_be_used(draft: Draft, listen: str) -> bool:
    """A page on its host's loopback address is for those who are let onto that host."""
    return draft.runtime.protocol == "openai" or (draft.runtime.protocol == "gradio" and listen not in LOOPBACK)


def _obeys(runtime: Runtime) -> bool:
    """Whether it listens where it is told."""
    told = [*runtime.command, *runtime.options.values(), *runtime.environment.values()]
    return not runtime.fixed_listen and any("{listen}" in str(each) for each in told)


def _without(draft: Draft) -> str:
    """What is left where an engine cannot have a key."""
    if draft.runtime.protocol == "gradio":
        return "set deployer_listen=127.0.0.1"
    return "choose another deployer_runtime or model, or set deployer_require_api_key=false for this host"


def _where(listen: str) -> str:
    return f"on all addresses of the host ({listen})" if listen in ANYWHERE else f"on {listen}"
