"""The url of a file on the vendor's servers, as the vendor's guides write it for `dfss`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployer.errors import CatalogError
from deployer.observe import packages

# The part behind the @ is only a name: the servers stand in the list of `dfss`.
_URL = re.compile(r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})@sophgo\.com:/?(?P<path>.{1,1024})")
# It becomes a file's name here: no blanks, nothing hidden, nothing that a shell or an option could be made of.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,@~()-]{0,199}")


@dataclass(frozen=True)
class Source:
    """A file on the servers: the account, the path without a leading slash, and the name that it has here."""

    user: str
    path: str
    name: str

    @property
    def url(self) -> str:
        """The url in one spelling, so that a part that was fetched by the other spelling is known again."""
        return f"{self.user}@sophgo.com:/{self.path}"


def parse(url: str) -> Source:
    """The parts of `user@sophgo.com:/dir/name`, which may also be without the slash (S0-R08, S0-R36)."""
    match = _URL.fullmatch(url) if url.isprintable() else None
    if not match:
        raise _wrong(url, "it is not of the form user@sophgo.com:/directory/name")
    parts = match["path"].split("/")
    name = parts[-1]
    if any(each in ("", ".", "..") for each in parts):
        raise _wrong(url, "its path has an empty part, or one that is '.' or '..'")
    if not _NAME.fullmatch(name):
        raise _wrong(url, f"{name[:60]!r} is no plain file name")
    # A file of this name would be read as the checksums of the others.
    if name in packages.LISTS or name.endswith(".sha256"):
        raise _wrong(url, f"{name} is the name of a list of checksums")
    return Source(match["user"], match["path"], name)


def _wrong(url: str, reason: str) -> CatalogError:
    return CatalogError(f"the url {url[:200]!r} cannot be fetched: {reason}", "correct it where it is set")
