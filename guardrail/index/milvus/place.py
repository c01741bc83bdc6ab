"""Where an index lies: read from a URL that is recorded, and from environment variables that are not."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from guardrail.errors import SettingsInvalid

__all__ = ["CA_VARIABLE", "PATIENCE_VARIABLE", "TOKEN_VARIABLE", "MilvusPlace"]

TOKEN_VARIABLE = "GUARDRAIL_MILVUS_TOKEN"  # noqa: S105 - the name of a variable, not a token
CA_VARIABLE = "GUARDRAIL_MILVUS_CA"  # PEM file of the authority that signed the server's certificate
PATIENCE_VARIABLE = "GUARDRAIL_MILVUS_PATIENCE_S"
_PATIENCE_S = 20.0  # for one request, its retries included; a batch that waits longer is not judged
_PORT = 19530  # Milvus' own default
_SCHEMES = {"milvus": False, "milvus+tls": True}
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")  # what Milvus takes in names of databases and collections
_HIDDEN = "<hidden>"


@dataclass(frozen=True, slots=True)
class MilvusPlace:
    """An index on a Milvus server; its text is the URL, which never holds a secret.

    Attributes:
        host, port: of the server, or of the proxy before a cluster.
        database: on that server.
        name: of the index in that database.
        is_tls: whether the connection is encrypted.
    """

    host: str
    port: int
    database: str
    name: str
    is_tls: bool

    @classmethod
    def parse(cls, location: str) -> Self:
        """Read `milvus://host[:port][/database[/name]]`, or `milvus+tls://...` for an encrypted connection.

        Raises:
            SettingsInvalid: it is not of that form, or holds a user or password (which are not repeated).
        """
        try:
            parts = urlsplit(location)
            port = parts.port or _PORT
        except ValueError as error:
            raise SettingsInvalid("index", f"{type(error).__name__} in the URL of a Milvus server") from error
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise SettingsInvalid(
                "index",
                f"a URL is recorded in every verdict and must hold no user, password or option; expected "
                f"milvus://host:port/database, with user:password or an API key in {TOKEN_VARIABLE}",
            )
        names = [part for part in parts.path.split("/") if part]
        if parts.scheme not in _SCHEMES or not parts.hostname or len(names) > 2:
            raise SettingsInvalid("index", f"{location!r} is not of the form milvus://host:port/database/name")
        for part in names:
            if not _NAME.fullmatch(part):
                raise SettingsInvalid("index", f"{part!r} names no database or index: letters, digits and _ do")
        database, name = [*names, "default", "works"][:2] if names else ("default", "works")
        name = names[1] if len(names) > 1 else "works"
        return cls(parts.hostname, port, database, name, _SCHEMES[parts.scheme])

    def __str__(self) -> str:
        scheme = "milvus+tls" if self.is_tls else "milvus"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{self.database}" + (f"/{self.name}" if self.name != "works" else "")

    @property
    def patience_s(self) -> float:
        """How long to wait for one answer, from the environment.

        Raises:
            SettingsInvalid: the variable holds no positive number.
        """
        said = os.environ.get(PATIENCE_VARIABLE, "")
        try:
            seconds = float(said) if said else _PATIENCE_S
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise SettingsInvalid(PATIENCE_VARIABLE, f"{said!r} is not a positive number of seconds")
        return seconds

    def connection(self) -> dict[str, Any]:
        """What `pymilvus.MilvusClient` is called with, secrets included: never to be shown.

        Raises:
            SettingsInvalid: the certificate named in the environment is not there.
        """
        scheme = "https" if self.is_tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        said: dict[str, Any] = {
            "uri": f"{scheme}://{host}:{self.port}",
            "db_name": self.database,
            "token": os.environ.get(TOKEN_VARIABLE, ""),
            "timeout": self.patience_s,
            "secure": self.is_tls,
        }
        if self.is_tls and (certificate := os.environ.get(CA_VARIABLE, "")):
            if not Path(certificate).is_file():
                raise SettingsInvalid(CA_VARIABLE, f"there is no file {certificate!r}")
            said["server_pem_path"] = certificate
        return said

    @staticmethod
    def hidden(text: str) -> str:
        """A text from elsewhere without the token, or either half of it."""
        token = os.environ.get(TOKEN_VARIABLE, "")
        for secret in (token, token.partition(":")[2]):
            if len(secret) > 1:
                text = text.replace(secret, _HIDDEN)
        return text
