"""What pages, API and workers share: settings, memory, a guard for each organisation, templates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from guardrail.desk.web.batching import CheckQueue
from guardrail.desk.web.metrics import Metrics
from guardrail.desk.web.workers import Workers
from guardrail.errors import SettingsInvalid
from guardrail.memory import Memory

if TYPE_CHECKING:
    from guardrail.guard import Guard
    from guardrail.memory import JobRow
    from guardrail.settings import Settings

__all__ = ["STATIC", "Desk", "desk_of"]

STATIC = Path(__file__).parent / "static"
_TEMPLATES = Path(__file__).parent / "templates"


class Desk:
    """One running desk: everything that a request needs and that outlives it; usable in threads.

    Args:
        settings: of the desk and of its guards.
        plugins: objects with hook implementations, besides the installed ones.

    Attributes:
        settings: as given.
        memory: ledger, cases, accounts, jobs.
        templates: the environment that pages are made in; routers add globals and filters to it.
        handlers: by kind of job, what does it: called with the job, it answers with a document, or raises.
        checks: images that wait to be judged.
        workers: who does jobs and delivers events, once they were started.
        metrics: what is counted.

    Raises:
        MemoryUnwritable: ledger and queue cannot be opened.
    """

    def __init__(self, settings: Settings, plugins: Iterable[object] = ()) -> None:
        self.settings = settings
        self.memory = Memory(settings.memory_url, pictures=settings.pictures_place, desk=settings.desk)
        self.templates = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.handlers: dict[str, Callable[[JobRow], dict[str, Any]]] = {}
        self.metrics = Metrics(self)
        self.checks = CheckQueue(self)
        self.workers = Workers(self)
        self._plugins = tuple(plugins)
        self._guards: dict[str, Guard] = {}
        self._building = threading.Lock()
        self._opening: set[str] = set()
        self._opener: threading.Thread | None = None
        self._closing = threading.Event()

    @property
    def organisations(self) -> tuple[str, ...]:
        """Those of the settings, in their order; `settings.index` is the first one's."""
        return tuple(self.settings.desk.organisations)

    def title_of(self, organisation: str) -> str:
        """An organisation as people call it: its title in the settings, or its name."""
        known = self.settings.desk.organisations.get(organisation)
        return known.title or organisation if known is not None else organisation

    def settings_of(self, organisation: str) -> Settings:
        """The settings that one organisation's guard runs with: its own index, and its name.

        Raises:
            SettingsInvalid: there is no such organisation, or it has no index.
        """
        known = self.settings.desk.organisations
        if organisation not in known:
            raise SettingsInvalid("desk.organisations", f"found no organisation {organisation!r}, expected one of them")
        first = organisation == next(iter(known))
        index = known[organisation].index or (self.settings.index if first else "")
        if not index and first and "organisations" not in self.settings.desk.model_fields_set:
            made = "make one with `guardrail index build` and give it as --index DIR, or as `index` in guardrail.toml"
            raise SettingsInvalid("index", f"found none, expected the folder of an index: {made}")
        if not index:
            raise SettingsInvalid(f"desk.organisations.{organisation}", "found no index, expected one of its own")
        return self.settings.model_copy(update={"index": index, "organisation": organisation})

    def guard_for(self, organisation: str) -> Guard:
        """The guard of one organisation, built when it is first asked for, and kept.

        Raises:
            SettingsInvalid, IndexMissing, IndexDamaged, ...: it cannot be built; see `Guard`.
        """
        if (guard := self._guards.get(organisation)) is not None:
            return guard
        from guardrail.guard import Guard  # it brings torch: seconds, which the port is not kept waiting for

        with self._building:
            if organisation not in self._guards:
                plugins = (*self._plugins, self.metrics.observer(organisation))
                self._guards[organisation] = Guard(settings=self.settings_of(organisation), plugins=plugins)
        return self._guards[organisation]

    def open_guards(
        self, failed: Callable[[Exception], None], opened: Callable[[Guard], None] = lambda guard: None
    ) -> None:
        """Build the guards of all organisations in a thread of their own, in their order; once.

        Args:
            failed: called there with what is raised where one cannot be built; the others are then not built.
            opened: called there with each once it is built.
        """

        def build() -> None:
            for organisation in self.organisations:
                if self._closing.is_set():
                    return
                try:
                    opened(self.guard_for(organisation))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is told where somebody waits for it
                    failed(error)
                    return
                self._opening.discard(organisation)

        self._opening = set(self.organisations)
        self._opener = threading.Thread(target=build, name="guardrail-opening", daemon=True)
        self._opener.start()

    def is_opening(self, organisation: str) -> bool:
        """Whether `open_guards` has not yet built an organisation's guard, or could not."""
        return organisation in self._opening

    def guards(self) -> tuple[tuple[str, Guard], ...]:
        """The guards that were built so far, with their organisations."""
        return tuple(self._guards.items())

    def page(self, request: Request, template: str, status: int = 200, **shown: Any) -> HTMLResponse:
        """A page from a template, which sees `request`, `desk` and what is given.

        Args:
            request: that is answered.
            template: file name below templates/.
            status: HTTP status.
            shown: what the template sees besides.
        """
        text = self.templates.get_template(template).render(request=request, desk=self, **shown)
        return HTMLResponse(text, status_code=status)

    def close(self) -> None:
        """Give connections and threads back."""
        self._closing.set()
        if self._opener is not None:
            self._opener.join()
        self.workers.stop()
        self.checks.close()
        for guard in self._guards.values():
            guard.memory.close()
        self.memory.close()


def desk_of(request: Request) -> Desk:
    """The desk that a request came to: a dependency of routes."""
    desk: Desk = request.app.state.desk
    return desk
