"""What browsers are told about every answer, so that nothing in one does any harm.

After OWASP's HTTP Headers Cheat Sheet; a report's page carries texts that others wrote, so it is shown in a sandbox,
where no script of it, planted or not, can call the gateway as its reader.
"""

_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ANSWER = "default-src 'none'; frame-ancestors 'none'"
_REPORT = (
    "sandbox allow-scripts allow-popups allow-downloads allow-modals; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_YEAR_S = 31_536_000


def protective(path: str, content_type: str, *, is_encrypted: bool) -> dict[str, str]:
    """Headers by name, for an answer that has none of its own; `path` and `content_type` tell pages, reports and data apart."""
    is_data = path.startswith("/api/")
    is_html = content_type.startswith("text/html")
    policy = _REPORT if is_data and is_html else _ANSWER if is_data else _PAGE
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        **({"cache-control": "no-store"} if is_data else {}),
        **({"strict-transport-security": f"max-age={_YEAR_S}"} if is_encrypted else {}),
    }
