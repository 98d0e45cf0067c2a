"""OpenTelemetry: FastAPI instrumented, spans in batches on a thread of their own."""

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

NEEDS = ["fastapi", "opentelemetry.sdk", "opentelemetry.instrumentation.fastapi"]
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer(__name__)
app = FastAPI()


@app.get("/")
async def root():
    with tracer.start_as_current_span("inner") as span:
        return {"ok": span.is_recording(), "parent": span.parent is not None}


FastAPIInstrumentor.instrument_app(app)
