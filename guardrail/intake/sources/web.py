"""Fetch one picture from the web: http and https only, no private networks, a size limit and a time limit."""

import http.client
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from guardrail import __version__
from guardrail.errors import ImageUnreadable

__all__ = ["WebLimits", "fetch"]

_REDIRECTS = 3  # hops; each is checked like the first
_MOVED = (301, 302, 303, 307, 308)
_PASSING = (408, 429, 500, 502, 503, 504)  # statuses that may be another a moment later
_TRIES = 2
_PAUSE_S = 1.0  # before the second try
_PIECE_BYTES = 65_536
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in the last 32 bits (RFC 6052)


@dataclass(frozen=True, slots=True)
class WebLimits:
    """What may be spent on one address.

    Attributes:
        whole_s: seconds for one try, from the name look-up to the last byte.
        silence_s: seconds without a byte.
        largest_bytes: bytes of the answer.
        private: whether addresses of private networks, of this machine and of its links may be asked.
    """

    whole_s: float = 60.0
    silence_s: float = 10.0
    largest_bytes: int = 64 * 2**20
    private: bool = False


class _Passing(Exception):
    """What may go better a moment later."""


def fetch(url: str, limits: WebLimits) -> bytes:
    """The bytes at an address. Environment proxies are not used, since behind one no address can be checked.

    Args:
        url: `http://...` or `https://...`, without a user and password in it.
        limits: see there.

    Raises:
        ImageUnreadable: with what was found instead: another scheme, a private address, an error, too many bytes.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _fetch_once(url, limits)
        except _Passing as passing:
            if not left:
                raise ImageUnreadable(url, str(passing)) from None
            time.sleep(_PAUSE_S)
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            if isinstance(error, ImageUnreadable):
                raise
            raise ImageUnreadable(url, f"no answer: {type(error).__name__}: {error}") from error
    raise AssertionError("the last try returns or raises")


def _fetch_once(url: str, limits: WebLimits) -> bytes:
    until = time.monotonic() + limits.whole_s
    for _ in range(_REDIRECTS + 1):
        parts = _require_web(url)
        connection = _Connection(parts, limits, until)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"User-Agent": f"guardrail/{__version__}", "Accept": "image/*"})
            with connection.getresponse() as answer:
                if answer.status not in _MOVED:
                    return _body(url, answer, limits, until)
                url = urljoin(url, answer.getheader("Location") or "")
        except TimeoutError as error:
            raise _Passing(f"no answer within {limits.silence_s:g} s") from error
        finally:
            connection.close()
    raise ImageUnreadable(url, f"more than {_REDIRECTS} redirections")


def _require_web(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ImageUnreadable(url, "not an http or https address")
    if parts.username is not None or parts.password is not None:
        raise ImageUnreadable(url, "an address with a user or password in it")
    if not url.isascii() or any(sign <= " " for sign in url):
        raise ImageUnreadable(url, "an address with signs that have to be escaped")
    return parts


def _body(url: str, answer: http.client.HTTPResponse, limits: WebLimits, until: float) -> bytes:
    if answer.status in _PASSING:
        raise _Passing(f"status {answer.status}")
    if answer.status != http.HTTPStatus.OK:
        raise ImageUnreadable(url, f"status {answer.status}")
    pieces, total = [], 0
    while piece := answer.read1(_PIECE_BYTES):
        total += len(piece)
        if total > limits.largest_bytes:
            raise ImageUnreadable(url, f"more than {limits.largest_bytes} bytes")
        if time.monotonic() > until:
            raise _Passing(f"not all of it within {limits.whole_s:g} s")
        pieces.append(piece)
    if answer.length:
        raise _Passing(f"{answer.length} bytes fewer than announced")
    return b"".join(pieces)


class _Connection(http.client.HTTPConnection):
    """A connection whose every address is checked after the name was looked up and before anything is sent.

    The name is looked up once, so that no second answer can lead elsewhere.
    """

    def __init__(self, parts: SplitResult, limits: WebLimits, until: float) -> None:
        secure = parts.scheme == "https"
        super().__init__(str(parts.hostname), parts.port or (443 if secure else 80), timeout=limits.silence_s)
        self._secure, self._limits, self._until = secure, limits, until

    def connect(self) -> None:
        """Connect to the first address that may be asked and answers."""
        refused: OSError | None = None
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            _require_public(self.host, str(address[0]), self._limits)
            if time.monotonic() > self._until:
                break
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._limits.silence_s)
                plain.connect(address)
                self.sock: Any = self._over(plain)
            except OSError as error:
                plain.close()
                refused = error
            else:
                return
        raise refused or TimeoutError

    def _over(self, plain: socket.socket) -> socket.socket:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=self.host) if self._secure else plain


def _require_public(host: str, address: str, limits: WebLimits) -> None:
    """Refuse addresses that lie behind this machine's own network: what is there was not meant for the world."""
    where = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(where, ipaddress.IPv6Address):
        within = ipaddress.IPv4Address(int(where) & 0xFFFFFFFF) if where in _NAT64 else None
        where = where.ipv4_mapped or where.sixtofour or within or where
    if not limits.private and (not where.is_global or where.is_multicast):
        raise ImageUnreadable(host, f"the address {address} of {host!r}, which is private; allow such ones by name")
