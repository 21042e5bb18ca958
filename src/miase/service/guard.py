"""What stands before every route: who may ask, what a browser may do with the answers, and what is counted.

A page of any site can send requests to 127.0.0.1. So a browser that says it comes from elsewhere is refused
(`Origin`, `Sec-Fetch-Site`), and so is a request under a name that is not ours (`Host`): a site whose name is
made to lead to 127.0.0.1 would otherwise count as the same origin (DNS rebinding).
"""

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from miase.service.counters import Counters
from miase.service.settings import LOOPBACK_NAMES, ServiceConfig

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
WILDCARDS = ("0.0.0.0", "::")  # addresses that stand for all

# Waveforms are drawn in shadow roots with a style of their own, hence inline styles, which the page's own
# policy narrows to that one by its hash; scripts only from here.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(self)"),
]


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: App, config: ServiceConfig, counters: Counters) -> None:
        self._app, self._token, self._counters = app, config.token, counters
        host = config.host.strip("[]").lower()
        names = {name.lower() for name in config.allow_host}
        # With an address that stands for all of them, the names are not known; the token protects there.
        self._names = None if host in WILDCARDS else {*LOOPBACK_NAMES, host, *names}
        if host in WILDCARDS and names:
            self._names = {*LOOPBACK_NAMES, *names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                if not any(name.lower() == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store" if _is_api(scope) else b"no-cache"))
                message["headers"] = headers + HEADERS
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._counters.requests[method, route, message["status"]] += 1
            await send(message)

        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, send_guarded)
        else:
            await _answer(send_guarded, *refusal)

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "")
        if self._names is not None and _name_of(host) not in self._names:
            return 403, (f"this service is not called {host[:100]!r}; use its address, or give --allow-host")
        origin = headers.get(b"origin")
        # A page that was opened as a file, or in a sandbox, says "null".
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if headers.get(b"sec-fetch-site") in ("cross-site", "same-site"):
            foreign = foreign or _is_api(scope)
        if foreign and (scope["method"] not in SAFE_METHODS or _is_api(scope)):
            return 403, "the request comes from a page of another site, which may not use this service"
        if self._token is not None and _is_api(scope):
            scheme, _, token = headers.get(b"authorization", "").partition(" ")
            right = hmac.compare_digest(token.strip().encode(), self._token.encode())
            if scheme.lower() != "bearer" or not right:
                return 401, "a token is needed; send the header 'Authorization: Bearer TOKEN'"
        return None


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _is_api(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith("/v1/") or path in ("/v1", "/metrics")


def _name_of(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
