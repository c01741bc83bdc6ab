"""What is counted while a desk runs, and read off its stores when somebody asks; in Prometheus' own form."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from guardrail.errors import GuardrailError
from guardrail.hookspecs import hookimpl
from guardrail.records import GenerationContext, Timings, Verdict

if TYPE_CHECKING:
    from guardrail.desk.web.desk import Desk

__all__ = ["Metrics"]

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)  # from one page to a long queue


class Metrics:
    """The metrics of one desk.

    Args:
        desk: whose stores are read when somebody asks.
    """

    def __init__(self, desk: Desk) -> None:
        self.registry = CollectorRegistry()
        make: dict[str, Any] = {"registry": self.registry}
        self._verdicts = Counter(
            "guardrail_verdicts", "Verdicts of this process.", ("organisation", "decision", "rule"), **make
        )
        self._stages = Histogram(
            "guardrail_stage_seconds", "Wall time of one batch, by stage.", ("stage",), buckets=_BUCKETS_S, **make
        )
        self._waits = Histogram(
            "guardrail_check_wait_seconds", "How long an image waited to be judged.", buckets=_BUCKETS_S, **make
        )
        self._checks = Histogram(
            "guardrail_check_seconds",
            "A check request, from its last byte to its verdicts.",
            buckets=_BUCKETS_S,
            **make,
        )
        self._batches = Histogram(
            "guardrail_check_batch_images", "Images judged together.", buckets=(1, 2, 4, 8, 16, 32, 64), **make
        )
        self._requests = Counter("guardrail_http_requests", "Requests answered.", ("method", "route", "status"), **make)
        self._answers = Histogram(
            "guardrail_http_request_seconds", "Server time of a request.", ("route",), buckets=_BUCKETS_S, **make
        )
        waiting = Gauge("guardrail_checks_waiting", "Images that wait to be judged, or are judged now.", **make)
        waiting.set_function(lambda: desk.checks.waiting)
        self.registry.register(_Stores(desk))

    def observer(self, organisation: str) -> _Observer:
        """A plugin that counts the verdicts of an organisation's guard."""
        return _Observer(organisation, self._verdicts, self._stages)

    def waited(self, since: Sequence[float], images: int) -> None:
        """Count a batch: when each of its images came (`time.monotonic`), and how many they are."""
        now = time.monotonic()
        for at in since:
            self._waits.observe(now - at)
        self._batches.observe(images)

    def checked(self, spent_s: float) -> None:
        """Count a check that was answered after so many seconds."""
        self._checks.observe(spent_s)

    def answered(self, method: str, route: str, status: int, spent_s: float) -> None:
        """Count a request, by the template of its route."""
        self._requests.labels(method, route, str(status)).inc()
        self._answers.labels(route).observe(spent_s)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Observer:
    """Told of every verdict."""

    def __init__(self, organisation: str, verdicts: Counter, stages: Histogram) -> None:
        self._organisation, self._verdicts, self._stages = organisation, verdicts, stages
        self._last = threading.local()

    @hookimpl
    def verdict_reached(self, verdict: Verdict, context: GenerationContext | None) -> None:
        """Count it; the timings are those of its whole batch, and count once."""
        del context
        self._verdicts.labels(self._organisation, str(verdict.decision), verdict.rule).inc()
        if verdict.timings is not None and verdict.timings is not getattr(self._last, "timings", None):
            self._last.timings = verdict.timings
            for name in Timings.model_fields:
                self._stages.labels(name.removesuffix("_ms")).observe(getattr(verdict.timings, name) / 1000)


class _Stores(Collector):
    """What is read off memory and indexes when somebody asks; what cannot be read is left out and counted."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def describe(self) -> Iterable[Metric]:
        """Nothing is read when it is registered."""
        return _families().values()

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        families = _families()
        unread = families["guardrail_stores_unread"]
        for name, read in (("cases", self._cases), ("jobs", self._jobs), ("indexes", self._indexes)):
            try:
                read(families)
            except (GuardrailError, OSError):
                unread.add_metric((name,), 1)
            else:
                unread.add_metric((name,), 0)
        yield from families.values()

    def _cases(self, families: dict[str, GaugeMetricFamily]) -> None:
        now = datetime.now(UTC)
        for organisation in self._desk.organisations:
            waiting = self._desk.memory.reviews.waiting(organisation)
            for state, count in waiting.undecided.items():
                families["guardrail_cases_waiting"].add_metric((organisation, state), count)
            since = waiting.oldest_opened_at
            age_s = max(0.0, (now - since).total_seconds()) if since is not None else 0.0
            families["guardrail_oldest_case_age_seconds"].add_metric((organisation,), age_s)

    def _jobs(self, families: dict[str, GaugeMetricFamily]) -> None:
        for labels, count in self._desk.memory.jobs.waiting().items():
            families["guardrail_jobs"].add_metric(labels, count)
        for of_hooks, count in self._desk.memory.webhooks.waiting().items():
            families["guardrail_webhook_deliveries"].add_metric(of_hooks, count)

    def _indexes(self, families: dict[str, GaugeMetricFamily]) -> None:
        now = datetime.now(UTC)
        for organisation, guard in self._desk.guards():
            header = guard.index.pinned().header
            families["guardrail_index_works"].add_metric((organisation,), header.works)
            age_s = max(0.0, (now - header.built_at).total_seconds())
            families["guardrail_index_built_age_seconds"].add_metric((organisation,), age_s)
            stale, fitted = "stale" in header.limits.calibration, header.limits.calibration != "uncalibrated"
            families["guardrail_calibration_stale"].add_metric((organisation,), float(stale))
            families["guardrail_calibrated"].add_metric((organisation,), float(fitted))


def _families() -> dict[str, GaugeMetricFamily]:
    said = (
        ("guardrail_cases_waiting", "Cases that nobody decided for good yet.", ("organisation", "state")),
        ("guardrail_oldest_case_age_seconds", "Age of the oldest of them.", ("organisation",)),
        ("guardrail_jobs", "Jobs that wait, run or failed.", ("organisation", "kind", "state")),
        ("guardrail_webhook_deliveries", "Deliveries that wait or were given up.", ("organisation", "state")),
        ("guardrail_index_works", "Works of the index.", ("organisation",)),
        ("guardrail_index_built_age_seconds", "Time since the index was built.", ("organisation",)),
        ("guardrail_calibrated", "Whether limits were fitted to the index.", ("organisation",)),
        ("guardrail_calibration_stale", "Whether the index has outgrown its limits.", ("organisation",)),
        ("guardrail_stores_unread", "Whether a store could not be read just now.", ("store",)),
    )
    return {name: GaugeMetricFamily(name, text, labels=labels) for name, text, labels in said}
