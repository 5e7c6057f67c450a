"""The audit log over HTTP, for administrators: who did what in their tenant."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from mistudio_explain.gateway.access import Administrator
from mistudio_explain.store.audit import Entry, StoredAudit

router = APIRouter(tags=["audit"])


class AuditLine(BaseModel):
    """One thing that somebody did, or tried to do."""

    id: int = Field(description="Grows with each entry; gaps are entries of other tenants.")
    at_ms: int = Field(description="When, milliseconds since 1970 UTC.")
    who: str = Field(description="Id of the API key; `loopback` on a gateway without keys; a login name for the command line.")
    address: str = Field(description="Where the request came from; empty for the command line.")
    action: str = Field(description="The request's method, or the command.")
    path: str = Field(description="The resource, or what the command was about.")
    status: int | None = Field(description="The answer's HTTP status; null for the command line.")


class AuditPage(BaseModel):
    """Entries of the audit log, newest first."""

    entries: list[AuditLine] = Field(description="The entries.")
    before: int | None = Field(description="Ask for older ones with this; null when there are none.")


@router.get("/audit", response_model=AuditPage)
def show_audit(
    request: Request,
    caller: Administrator,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most entries to give.")] = 100,
    before: Annotated[int | None, Query(ge=1, le=(1 << 63) - 1, description="Only entries older than this one.")] = None,
) -> AuditPage:
    """Say who did what in the caller's tenant, newest first."""
    audit: StoredAudit = request.app.state.audit
    entries = audit.newest(limit, tenant=caller.tenant, before=before)
    return AuditPage(entries=[_line(entry) for entry in entries], before=entries[-1].id if len(entries) == limit else None)


def _line(entry: Entry) -> AuditLine:
    deed = entry.deed
    return AuditLine(id=entry.id, at_ms=deed.at_ms, who=deed.who, address=deed.address, action=deed.action, path=deed.path, status=deed.status)
