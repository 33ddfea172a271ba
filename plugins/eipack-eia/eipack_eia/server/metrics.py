"""Figures for Prometheus, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from eipack_eia.server.models import Models
    from eipack_eia.server.scheduler import Scheduler

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(models: Models, scheduler: Scheduler) -> tuple[bytes, str]:
    """Return the metrics in Prometheus' text format, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(models, scheduler))
    return generate_latest(registry), _CONTENT_TYPE


class _Figures(Collector):
    def __init__(self, models: Models, scheduler: Scheduler) -> None:
        self._models = models
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        """Give each figure once."""
        limit = self._models.memory_bytes or 0
        yield _gauge("eia_memory_bytes", "Memory of the slice.", limit)
        yield _gauge("eia_memory_used_bytes", "What models take of it.", self._models.used_bytes)
        yield _gauge("eia_waiting_requests", "Requests that wait.", self._scheduler.waiting)
        inferences = CounterMetricFamily("eia_inferences", "Inferences.", labels=["model"])
        failures = CounterMetricFamily("eia_failures", "Inferences that failed.", labels=["model"])
        seconds = CounterMetricFamily(
            "eia_seconds", "Time of inferences by phase.", labels=["model", "phase"]
        )
        for model in self._models.resident():
            found = model.statistics
            inferences.add_metric([model.name], found.inferences)
            failures.add_metric([model.name], found.failures)
            for phase in ("transfer", "queue", "compute"):
                spent = getattr(found, f"{phase}_ns") / 1e9
                seconds.add_metric([model.name, phase], spent)
        yield from (inferences, failures, seconds)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
