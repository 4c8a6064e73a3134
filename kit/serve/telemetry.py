"""Traces: one span a request, with the attributes of OpenTelemetry's GenAI conventions. No texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from opentelemetry import trace


def instrument(app: FastAPI, where: str) -> Callable[[], object]:
    """Send a span for each request; returns what must be called at the end, so that none is lost.

    Args:
        app: the application.
        where: ``"console"``, ``"otlp"`` (to ``OTEL_EXPORTER_OTLP_ENDPOINT``), or ``""``: nowhere.
    """
    if not where:
        return lambda: None
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "kit"}))
    if where == "console":
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        excluded_urls="healthz,readyz,metrics",
        exclude_spans=["receive", "send"],
    )
    return provider.shutdown


def describe(body: Any, answered_by: str, prompt_tokens: int) -> None:
    """Say on the span of this request what is asked of whom."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attributes(
        {
            "gen_ai.operation.name": "chat" if hasattr(body, "messages") else "text_completion",
            "gen_ai.request.model": body.model,
            "gen_ai.response.model": answered_by,
            "gen_ai.usage.input_tokens": prompt_tokens,
        }
        | ({} if body.most_tokens() is None else {"gen_ai.request.max_tokens": body.most_tokens()})
    )


def finished(completion_tokens: int) -> None:
    """Say on the span how long the answer is."""
    trace.get_current_span().set_attribute("gen_ai.usage.output_tokens", completion_tokens)
