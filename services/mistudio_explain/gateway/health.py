"""Whether the gateway lives and can do its work, and its metrics."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mistudio_explain.gateway.access import Administrator
from mistudio_explain.gateway.parts import Here

router = APIRouter(tags=["health"])


@router.get("/livez", response_class=PlainTextResponse)
async def livez(gateway: Here) -> Response:
    """200 while every loop turns, whether or not Kafka is there."""
    alive = gateway.stream.is_alive()
    return PlainTextResponse("ok" if alive else "a consuming loop has stopped turning", 200 if alive else 503)


@router.get("/readyz", response_class=PlainTextResponse)
async def readyz(gateway: Here) -> Response:
    """200 when orders can be given, 503 with the reason while Kafka is away; what is stored can be read then too."""
    why = gateway.stream.unready_because()
    return PlainTextResponse(why or "ok", 200 if why is None else 503)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(_: Administrator) -> Response:
    """Metrics, as Prometheus reads them; they name models, and so are no other tenant's business."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
