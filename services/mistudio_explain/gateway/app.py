"""Puts the gateway's routes together."""

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from mistudio_explain import __version__
from mistudio_explain.gateway import health, jobs, problems
from mistudio_explain.gateway.names import SlashesInNames
from mistudio_explain.gateway.parts import Gateway

PREFIX = "/api/v1"
_ROUTERS = (jobs.router,)
"""The resources, one module each."""
_GZIP_FROM_BYTES = 1024
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
    )
    app.state.gateway = gateway
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router, prefix=PREFIX, responses={"default": {"model": problems.ProblemDetails, "description": "A problem (RFC 9457)."}})
    app.include_router(health.router)
    app.add_middleware(GZipMiddleware, minimum_size=_GZIP_FROM_BYTES)
    app.add_middleware(SlashesInNames)
    return app
