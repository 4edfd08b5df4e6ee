"""Metrics of sets: a collector for Prometheus, and instrumentation for OpenTelemetry.

A :class:`Collector` reads the sets of a server from one process, whoever uses them. :func:`instrument` measures the
calls and the work of its own process. Each needs an extra, ``redset[prometheus]`` and ``redset[otel]``, which is
imported when it is used.
"""

from redset.metrics.otel import Instrumentation, instrument
from redset.metrics.prometheus import Collector

__all__ = ("Collector", "Instrumentation", "instrument")
