"""Puts the gateway's routes together."""

import secrets
import time

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from mistudio_explain import __version__
from mistudio_explain.gateway import (
    artefacts,
    audit,
    explain_now,
    explanations,
    features,
    health,
    jobs,
    operations,
    orders,
    pages,
    problems,
    reviews,
    session,
    streams,
    uploads,
    webhooks,
)
from mistudio_explain.gateway.artefacts import RangesAsTheyAre
from mistudio_explain.gateway.cookies import Sessions
from mistudio_explain.gateway.description import complete_description
from mistudio_explain.gateway.guard import Guard
from mistudio_explain.gateway.kept import KeptAnswers
from mistudio_explain.gateway.keyring import KeyRing
from mistudio_explain.gateway.names import SlashesInNames
from mistudio_explain.gateway.parts import Gateway
from mistudio_explain.store.audit import audit_log
from mistudio_explain.store.keys import StoredKeys, access_store
from mistudio_explain.store.sessions import StoredSessions

PREFIX = "/api/v1"
_ROUTERS = (
    jobs.router,
    uploads.router,
    orders.router,
    explanations.router,
    features.router,
    reviews.router,
    artefacts.router,
    streams.router,
    explain_now.router,
    operations.router,
    webhooks.router,
    audit.router,
    session.router,
)
"""The resources, one module each."""
_GZIP_FROM_BYTES = 1024
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range")
_EXPOSED = ("ETag", "Retry-After", "Location", "Content-Range")
"""What pages of origins that are allowed may do, send and see."""
_ABOUT = "Explain jobs of miStudioExplain: what is explained, how far to believe it, and orders about it. Errors are problem details (RFC 9457)."


def make_app(gateway: Gateway) -> FastAPI:
    """The application that answers on the gateway's port."""
    app = FastAPI(
        title="miStudioExplain",
        version=__version__,
        description=_ABOUT,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.gateway = gateway
    app.state.keys = KeyRing(StoredKeys(access_store(gateway.settings)), time.monotonic)
    app.state.sessions = Sessions(
        StoredSessions(access_store(gateway.settings)),
        int(gateway.settings.gateway.session_h * 3_600_000),
        clock=time.monotonic,
        now_ms=gateway.now_ms,
        random_bytes=secrets.token_bytes,
    )
    app.state.audit = audit_log(gateway.settings)
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router, prefix=PREFIX, responses={"default": {"model": problems.ProblemDetails, "description": "A problem (RFC 9457)."}})
    app.include_router(health.router)
    app.include_router(pages.router)
    app.add_middleware(KeptAnswers, version=gateway.version)
    app.add_middleware(GZipMiddleware, minimum_size=_GZIP_FROM_BYTES)
    app.add_middleware(RangesAsTheyAre)
    app.add_middleware(Guard, settings=gateway.settings.gateway, keys=app.state.keys, sessions=app.state.sessions, audit=app.state.audit, now_ms=gateway.now_ms)
    if origins := gateway.settings.gateway.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=_METHODS, allow_headers=_HEADERS, expose_headers=_EXPOSED)
    app.add_middleware(SlashesInNames)
    complete_description(app)
    return app
