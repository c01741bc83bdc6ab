"""One event to one webhook: signed, sent to the very address that was checked, and never led elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from guardrail import __version__
from guardrail.desk.web.problems import Problem

if TYPE_CHECKING:
    from guardrail.memory import DueDelivery

__all__ = ["Sent", "deliver", "require_target", "signature_of"]

_DEADLINE_S = 10.0  # from looking the name up to the answer's status, as docs/api.md promises
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in the last 32 bits (RFC 6052)
_NOT_FOR_US = tuple(  # which `ipaddress` takes for global, and which lead, or led, to addresses of one's own
    map(
        ipaddress.ip_network,
        ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10", "192.0.0.0/24", "192.88.99.0/24"),
    )
)
_LONGEST_URL = 2000  # letters


@dataclass(frozen=True, slots=True)
class Sent:
    """How sending went: the HTTP status of the answer, or why there was none."""

    status: int | None
    error: str = ""


def signature_of(secret: str, body: bytes, at_s: int) -> str:
    """The header `Guardrail-Signature`: when it was sent, and the HMAC-SHA256 of `TIME.BODY` as hex.

    Args:
        secret: of the webhook, as it was shown.
        body: as it is sent.
        at_s: seconds since 1970, UTC.
    """
    signed = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={signed}"


def require_target(url: str, *, private: bool) -> None:
    """Require that events may be sent to a URL, as far as can be told before its name is looked up.

    Args:
        url: as it was given.
        private: whether private addresses, and http without TLS, may be used.

    Raises:
        Problem: they may not (422).
    """
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_one = urlsplit(""), False
    found = ""
    if parts.scheme not in (("https", "http") if private else ("https",)) or not parts.hostname or not port_is_one:
        found = "no https address"
    elif parts.username is not None or parts.password is not None:
        found = "a user or password in the address"
    elif len(url) > _LONGEST_URL or not url.isascii() or any(sign <= " " for sign in url) or parts.fragment:
        found = "signs in the address that have to be escaped, or a fragment"
    elif not private and _is_private_name(parts.hostname):
        found = "a private address"
    if found:
        raise Problem(422, f"found {found}, expected a public https://... address; correct `url`", "webhook-url")


def _is_private_name(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return _is_private(host)
    except ValueError:
        return False  # a name: what it stands for is checked each time that something is sent


def _is_private(address: str) -> bool:
    """Whether an address lies behind this machine's own network: what is there was not meant for the world."""
    where = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(where, ipaddress.IPv6Address):
        within = ipaddress.IPv4Address(int(where) & 0xFFFFFFFF) if where in _NAT64 else None
        where = where.ipv4_mapped or where.sixtofour or within or where
    both = (ipaddress.ip_address(address.partition("%")[0]), where)
    refused = any(one in net for one in both for net in _NOT_FOR_US if net.version == one.version)
    return refused or not where.is_global or where.is_multicast


def deliver(due: DueDelivery, *, private: bool) -> Sent:
    """Send one event within ten seconds in all; whatever goes wrong is told, not raised.

    Redirections are not followed and proxies not used; of the answer, nothing is read beyond its head.

    Args:
        due: what, and where to.
        private: whether private addresses may be asked.
    """
    until_s = time.monotonic() + _DEADLINE_S
    try:
        require_target(due.url, private=private)
        parts = urlsplit(due.url)
        host = str(parts.hostname)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = _checked_address(host, port, until_s - time.monotonic(), private=private)
        return Sent(asyncio.run(_status(due, address, until_s - time.monotonic())))
    except Problem as problem:
        return Sent(None, str(problem.detail))
    except TimeoutError:
        return Sent(None, f"found no answer within {_DEADLINE_S:g} s, expected its status")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return Sent(None, f"{type(error).__name__}: {error}")


async def _status(due: DueDelivery, address: str, within_s: float) -> int:
    """The status that a receiver at an address answers with: asynchronous, so that one deadline spans all of it.

    Raises:
        TimeoutError: there was none within so many seconds, however much came by then.
        httpx.HTTPError, OSError: it could not be asked.
    """
    parts = urlsplit(due.url)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"guardrail/{__version__}",
        "Guardrail-Event": due.event,
        "Guardrail-Delivery": due.delivery_id,
        "Guardrail-Signature": signature_of(due.secret, due.body, int(time.time())),
        "Host": parts.netloc,
    }
    url, sni = httpx.URL(due.url).copy_with(host=address), {"sni_hostname": str(parts.hostname)}
    async with (
        asyncio.timeout(within_s),
        httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as client,  # noqa: S113 - the line above
        client.stream("POST", url, content=due.body, headers=headers, extensions=sni) as answer,  # its body is not read
    ):
        return answer.status_code


def _checked_address(host: str, port: int, within_s: float, *, private: bool) -> str:
    """The address that a name stands for, looked up once: no second answer can lead elsewhere.

    Raises:
        Problem: one of its addresses is private.
        TimeoutError: nobody said within so many seconds.
        OSError: it stands for none.
    """
    found = _looked_up(host, port, within_s)
    if not found:
        raise OSError(f"no address of {host!r}")
    if not private and (refused := [one for one in found if _is_private(one)]):
        raise Problem(422, f"found the private address {refused[0]}, expected a public one; correct `url`")
    return found[0].partition("%")[0]


def _looked_up(host: str, port: int, within_s: float) -> list[str]:
    """The addresses of a name. The system's resolver cannot be stopped, so a thread of its own waits for it."""
    found: list[str] | OSError | UnicodeError | None = None

    def look() -> None:
        nonlocal found
        try:
            found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            found = error

    looking = threading.Thread(target=look, name="guardrail-looking-up", daemon=True)
    looking.start()
    looking.join(within_s)
    if found is None:
        raise TimeoutError
    if isinstance(found, Exception):
        raise found
    return found
