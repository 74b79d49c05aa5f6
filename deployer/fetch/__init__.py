"""Brings a vendor's file onto the control node: resumed where it broke off, checked, and recorded at first sight."""

from deployer.fetch.dfss import Content, Fetched, fetch
from deployer.fetch.errors import FetchError
from deployer.fetch.servers import Server, available_servers
from deployer.fetch.source import Source, parse

__all__ = ["Content", "FetchError", "Fetched", "Server", "Source", "available_servers", "fetch", "parse"]
