"""The application: pages and API of one desk, put together from their routers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from guardrail import __version__
from guardrail.desk.web import (
    accounts_pages,
    api_cases,
    api_checks,
    api_jobs,
    api_webhooks,
    api_works,
    attribution_pages,
    case_pages,
    casefile_pages,
    checking,
    health,
    learning_pages,
    metrics_page,
    openapi,
    problems,
    queue_pages,
    release_jobs,
    security,
    signing_in,
    works_pages,
)
from guardrail.desk.web.desk import STATIC
from guardrail.desk.web.uploads import BodyLimit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from guardrail.desk.web.desk import Desk
    from guardrail.desk.web.metrics import Metrics

__all__ = ["build_app"]

_API = (api_checks, api_cases, api_works, api_webhooks, api_jobs, health, metrics_page)
_PAGES = (
    signing_in,
    accounts_pages,
    queue_pages,
    case_pages,
    attribution_pages,
    learning_pages,
    works_pages,
    casefile_pages,
)
_ABOUT = (
    "Images are checked against your organisation's index of protected works; people review what was flagged. "
    "Every request carries an API token: `Authorization: Bearer gr_...`. Problems are `application/problem+json`."
)


def build_app(desk: Desk, *, pages: bool = True, workers: bool = True) -> FastAPI:
    """The application of a desk.

    Args:
        desk: what it runs on; it is closed by whoever made it.
        pages: whether people are served too, or programs alone (`guardrail serve`).
        workers: whether jobs and webhooks are worked on while it runs (between start-up and shut-down).
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        if workers:
            desk.workers.start()
        try:
            yield
        finally:
            desk.workers.stop()

    app = FastAPI(
        title="guardrail",
        version=__version__,
        description=_ABOUT,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.desk = desk
    problems.install(app)
    openapi.install(app)
    desk.handlers |= {"check": checking.handler(desk), **release_jobs.handlers(desk)}
    _take_up(app, desk, pages=pages)
    app.add_middleware(BodyLimit, settings=desk.settings.desk)
    app.add_middleware(_Timed, metrics=desk.metrics)
    security.install(app, desk)  # outermost
    return app


def _take_up(app: FastAPI, desk: Desk, *, pages: bool) -> None:
    """Take up the routers, and what their modules put into the desk: rescans are done without pages, too."""
    for module in _API:
        app.include_router(module.router)
    for page in _PAGES:
        if pages:
            app.include_router(page.router, include_in_schema=False)
        if (install := getattr(page, "install", None)) is not None:
            install(app, desk)
    if pages:
        app.mount("/static", StaticFiles(directory=STATIC), name="static")


class _Timed:
    """Middleware that counts requests by the template of their route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            template = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(scope["method"], template, status, time.perf_counter() - started)
