"""`guardrail desk` and `guardrail serve`: the review desk in a browser, and the HTTP API."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, read_settings
from guardrail.errors import GuardrailError, IndexMissing, SettingsInvalid

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from guardrail.desk.web.desk import Desk
    from guardrail.guard import Guard
    from guardrail.settings import Settings

__all__ = ["desk", "serve"]

_HEADERS_TIMEOUT_S = 10
_GRACE_S = 30  # for requests that are being answered when it is stopped
_BACKLOG = 2048

_Index = Annotated[str, typer.Option(help="Folder of the index, in place of the settings'.")]
_Host = Annotated[str, typer.Option(help="Address to listen at, in place of the settings'.")]
_Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen at; 0: one that is free.")]
_FirstLink = Annotated[
    bool, typer.Option("--first-link", help="Print a new first link, while no admin has signed in yet.")
]


def desk(
    index: _Index = "",
    host: _Host = "",
    port: _Port = None,
    first_link: _FirstLink = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Serve the review desk: pages for people, and the HTTP API under /v1. Stop it with Ctrl-C.

    On its first start it prints a link by which the first admin of each organisation signs in, once, within a day.

    Example: guardrail desk --index my-index

    Exit codes: 0 stopped, 1 it could not be started.
    """
    _run(_settings(settings_file, index, host, port), pages=True, first_link=first_link, as_json=as_json)


def serve(
    index: _Index = "",
    host: _Host = "",
    port: _Port = None,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Serve the HTTP API alone: /v1, /livez, /readyz and /metrics. Tokens for it are made at the desk.

    Example: guardrail serve --index my-index --port 8788

    Exit codes: 0 stopped, 1 it could not be started.
    """
    _run(_settings(settings_file, index, host, port), pages=False, first_link=False, as_json=as_json)


def _settings(settings_file: Any, index: str, host: str, port: int | None) -> Settings:
    settings = read_settings(settings_file)
    said: dict[str, Any] = ({"host": host} if host else {}) | ({"port": port} if port is not None else {})
    changed: dict[str, Any] = {"desk": settings.desk.model_copy(update=said)}
    return settings.model_copy(update=changed | ({"index": index} if index else {}))


def _run(settings: Settings, *, pages: bool, first_link: bool, as_json: bool) -> None:
    """Listen, say where, and serve until it is stopped."""
    from guardrail.desk.web.desk import Desk
    from guardrail.desk.web.security import base_url, require_binding

    require_binding(settings)
    logging.getLogger("guardrail").setLevel(min(logging.WARNING, logging.getLogger().level))
    with _listening(settings) as listener:
        address = base_url(settings, listener.getsockname()[1])
        made = Desk(settings)
        try:
            for organisation in made.organisations:
                _require_index(made.settings_of(organisation).index)  # said before anybody is told an address
            titles = {name: one.title or name for name, one in settings.desk.organisations.items()}
            links = made.memory.accounts.first_links(titles, again=first_link) if pages else {}
            _tell(made, address, links, pages=pages, as_json=as_json)
            _serve(made, listener, pages=pages)
        finally:
            made.close()


def _require_index(index: str) -> None:
    """Require the folder of an index to be there; what is in it, and servers, are looked at beside.

    Raises:
        IndexMissing: it is not.
    """
    if "://" not in index and not Path(index).is_dir():
        raise IndexMissing(index, "nothing there")


def _listening(settings: Settings) -> socket.socket:
    """A socket at the host and port of the settings.

    Raises:
        SettingsInvalid: nobody can listen there.
    """
    import socket

    at = settings.desk
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as undone:
            listener = undone.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            undone.pop_all()
    except OSError as error:
        found = f"found {at.host}:{at.port}, where nobody can listen ({error.strerror or error})"
        raise SettingsInvalid("desk.port", f"{found}, expected a free one") from error
    return listener


def _tell(made: Desk, address: str, links: dict[str, str], *, pages: bool, as_json: bool) -> None:
    """Say where it is, and the links by which the first admins sign in."""
    told = {organisation: f"{address}/sign-in/link/{secret}" for organisation, secret in links.items()}
    if as_json:
        print_json({"address": address, "api": f"{address}/v1", "first_links": told})
        sys.stdout.flush()
        return
    console = aside()
    what = "the review desk is at" if pages else "the HTTP API is at"
    console.print(plain(f"{what} {address}{'' if pages else '/v1'}  (stop: Ctrl-C)"), soft_wrap=True)
    for organisation, link in told.items():
        who = f" of {organisation}" if len(made.organisations) > 1 else ""
        console.print(plain(f"first admin{who}, once, within a day: {link}"), soft_wrap=True)


def _unsigned() -> Callable[[Guard], None]:
    """What says on stderr, once, why a guard could not sign what people release; it is served all the same."""
    said: set[str] = set()

    def warn(guard: Guard) -> None:
        try:
            guard.ready_to_release(guard.settings.home)
        except GuardrailError as error:
            if str(error) not in said:
                said.add(str(error))
                means = "decisions are kept, but no image that people release leaves until it can be signed"
                aside().print(plain(f"Warning: {means}: {error}"), soft_wrap=True)

    return warn


def _serve(made: Desk, listener: socket.socket, *, pages: bool) -> None:
    """Serve until it is stopped, or until an index turns out not to be usable.

    Raises:
        Exception: what kept an organisation's guard from being built.
    """
    import signal

    import uvicorn

    from guardrail.desk.web.app import build_app

    config = uvicorn.Config(
        build_app(made, pages=pages),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(made.settings.desk.public_url),
        forwarded_allow_ips="127.0.0.1,::1",  # a proxy on this machine
        timeout_keep_alive=_HEADERS_TIMEOUT_S,
        timeout_graceful_shutdown=_GRACE_S,
        backlog=_BACKLOG,
    )
    server, failures = uvicorn.Server(config), list[Exception]()

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    made.open_guards(failed, _unsigned())  # beside: /livez answers at once, and /readyz says when images can be checked
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped by a supervisor or by Ctrl-C: all the same
    with suppress(KeyboardInterrupt):  # which comes once everything that was asked is answered
        server.run(sockets=[listener])
    if failures:
        raise failures[0]
