"""Where a host's endpoints are: its own address, as the inventory has it. A host's files have no say in whom we ask."""

from __future__ import annotations

from deployer.observe.settings import Settings

ANYWHERE = ("0.0.0.0", "::")  # noqa: S104
HERE = "127.0.0.1"


def root(settings: Settings, listen: str, port: int) -> str:
    """The root of what listens there; one that listens everywhere is asked where its host is."""
    address = listen
    if listen in ANYWHERE:
        address = HERE if settings.is_local else settings.address
    return f"http://{bracketed(address)}:{port}"


def local(listen: str, port: int) -> str:
    """The same, for who asks on the host itself."""
    return f"http://{bracketed(HERE if listen in ANYWHERE else listen)}:{port}"


def of_record(settings: Settings, protocol: str, port: object, said: object) -> str:
    """The endpoint of a deployment that is on a host; of what its record has `said`, the port and no address is taken.

    A page that listens on its host alone is the exception, since nobody asks it from here.
    """
    if protocol == "terminal":
        return ""
    if not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError("its port is none")
    if protocol == "gradio" and said == f"{local(HERE, port)}/":
        return str(said)
    own = root(settings, settings.listen or ANYWHERE[0], port)
    return f"{own}/v1" if protocol == "openai" else f"{own}/"


def own(said: object, planned: str) -> tuple[str, ...]:
    """The endpoints that a run has told of a host; none where it has told none, an error where one is not its own."""
    if not said:
        return ()
    wanted = planned.rpartition(":")[0]
    if not isinstance(said, list | tuple):
        raise TypeError("its endpoints are no list")
    for each in said:
        if not isinstance(each, str) or each.rpartition(":")[0] != wanted:
            raise ValueError(f"an endpoint is not at the address that was planned for it: {str(each)[:200]!r}")
    return tuple(said)


def bracketed(address: str) -> str:
    """An address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address
