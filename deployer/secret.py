"""Values that nobody may read. What is printed, kept, sent on or compared of one is its mark.

The mark is a slow hash: a record, a plan and a log are read by more people than the value is meant for, and a short
value could be guessed from a fast one. It is salted with the deployment's name, so that no table of guesses fits two
deployments, and with nothing that only one control node knows: another one must find the same mark, or it would restart
what serves. Whoever reads a mark can still try some ten guesses a second and core: a secret has to be long and random.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from deployer.errors import DeployerError

# The probe computes marks too, of what stands in a host's files: see `mark` there.
ROUNDS = 200_000
LENGTH = 24
PREFIX = "secret:"
MARK = re.compile(rf"{PREFIX}[0-9a-f]{{{LENGTH}}}")
# What stands for a value that was written in clear before there were marks.
HIDDEN = "hidden"

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|AUTH|_(PASS|PWD|DSN)$")
# `TOKENIZERS_PARALLELISM`, `VLLM_MAX_NUM_BATCHED_TOKENS`: words of language models that are no secrets.
# `SSL_KEY_FILE` says where one is.
_HARMLESS = re.compile(
    r"^\w*_(FILE|PATH|DIR)$|TOKENIZ\w*|(MAX|MIN|NUM|BATCHED)_(\w+_)?TOKENS?|KEY_?VALUE|MONKEY|AUTHOR(S|_|$)"
)
_IN_ADDRESS = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


class Secret:
    """A value with its mark. One that has come by its mark only, out of a plan or a record, has no value to reveal."""

    __slots__ = ("_mark", "_salt", "_value")

    def __init__(self, value: str, salt: str = "") -> None:
        if not value:
            raise ValueError("a secret is never empty")
        self._value: str | None = value
        self._salt, self._mark = salt, ""

    @classmethod
    def of_mark(cls, mark: str) -> Secret:
        """One of which only the mark is known."""
        if not MARK.fullmatch(mark):
            raise ValueError("this is no mark of a secret")
        found = cls(mark)
        found._value, found._mark = None, mark
        return found

    def salted(self, salt: str) -> Secret:
        """The same value with the mark that belongs to a deployment."""
        return self if self._value is None else Secret(self._value, salt)

    @property
    def mark(self) -> str:
        """What stands for it wherever it is seen."""
        if not self._mark:
            assert self._value is not None
            self._mark = mark(self._value, self._salt)
        return self._mark

    @property
    def known(self) -> bool:
        """Whether the value is here."""
        return self._value is not None

    def reveal(self) -> str:
        """The value. Only what hands it to the host, or to the endpoint that wants it, has reason to ask."""
        if self._value is None:
            raise DeployerError("only the mark of this secret is known here, not its value")
        return self._value

    def __str__(self) -> str:
        return self.mark

    # Cheap, since errors and debuggers print much that nobody reads.
    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, _: str) -> str:
        return self.mark

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.mark == other.mark

    def __hash__(self) -> int:
        return hash(self.mark)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """What is pickled goes to other processes and into files: the mark alone."""
        return Secret.of_mark, (self.mark,)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A model takes a value or a mark, and its dumps, JSON or not, have marks."""
        return core_schema.no_info_plain_validator_function(
            _validated,
            serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema()),
        )


def _validated(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("a secret is a text")  # noqa: TRY004  pydantic makes its own error of a ValueError only
    if not value:
        raise ValueError("it is empty")
    # A plain `str`, without what Ansible has tied to it.
    value = "".join(value)
    return Secret.of_mark(value) if MARK.fullmatch(value) else Secret(value)


@functools.lru_cache(maxsize=4096)
def mark(value: str, salt: str) -> str:
    """Computed once for all hosts of a fleet: it takes a tenth of a second."""
    found = hashlib.pbkdf2_hmac("sha256", value.encode(), f"deployer:{salt}".encode(), ROUNDS)
    return PREFIX + found.hex()[:LENGTH]


def is_secret(name: str, value: str = "") -> bool:
    """Whether the name of a variable or option says so, or the value is an address with a password in it."""
    words = _HARMLESS.sub("", name.upper().replace("-", "_"))
    return bool(_IN_ADDRESS.search(value) or _NAMES.search(words))


def shown(name: str, value: Any) -> Any:
    """A value of a host's record: in clear only what is no secret, and what is a mark."""
    clear = not isinstance(value, str) or not value or MARK.fullmatch(value) or not is_secret(name, value)
    return value if clear else HIDDEN
