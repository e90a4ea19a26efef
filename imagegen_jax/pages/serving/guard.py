"""The guard before a page: it lets in requests to this machine, of the page itself, of a visitor, and not too large.

Browsers let any site send requests to servers on one's own machine. So the host has to be this machine's (else a name
that was made to point here could read the page), the origin the page's own, and what changes something has to carry
the visitor's token, which another site cannot read.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen_jax.pages.serving.visitors import Visitors, same

HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)  # and nothing else in that header
TOKEN = "x-token"  # the header that carries it
OPEN = ("/static/", "/favicon.ico")  # what holds nothing of a visitor
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclasses.dataclass(frozen=True)
class Guard:
    """Lets requests through to `app`, with `request.state.visitor` and `.token`, or refuses them.

    It answers 400 to another host, 403 to another origin, an unknown visitor and a missing token, and 413 to bodies of
    more than `largest` bytes, whether their length is said or not. All answers get the headers that keep other sites
    from showing or reading the page, and the page from loading anything of theirs.
    """

    app: ASGIApp
    visitors: Visitors
    largest: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(Request(scope)) or self._admit(Request(scope))
        await (refusal or self.app)(scope, _limited(receive, self.largest), _with_headers(send))

    def _refusal(self, request: Request) -> Response | None:
        """Returns the answer to a request that did not come from a page of this server, or that is too large."""
        headers, writes = request.headers, request.method not in ("GET", "HEAD")
        host = headers.get("host", "")
        if HOST.fullmatch(host) is None:
            return _refused(400, "this server answers to 127.0.0.1 and localhost alone")
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return _refused(403, "another site may not ask this server")
        elsewhere = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if elsewhere and (
            writes or headers.get("sec-fetch-mode") != "navigate"
        ):  # a link that is followed may lead here
            return _refused(403, "another site may not ask this server")
        if _length(headers) > self.largest:
            return _refused(413, f"more than {self.largest:,} bytes")
        return None

    def _admit(self, request: Request) -> Response | None:
        """Notes who asks; returns the answer to a new visitor, and to one who is none."""
        cookie = request.cookies.get(self.visitors.cookie_name, "")
        visitor = self.visitors.named(cookie)
        # not request.url, which is made of the Host header too; one slash, since "//name" would lead to another host
        path, key = f"/{request.scope['path'].lstrip('/')}", request.query_params.get("key")
        if key is not None and request.method == "GET" and same(key, self.visitors.key):
            answer = RedirectResponse(path, 303)
            answer.set_cookie(
                self.visitors.cookie_name, cookie if visitor else self.visitors.cookie(), max_age=400 * 86_400,
                httponly=True, samesite="lax",
            )  # fmt: skip
            return answer
        if path.startswith(OPEN):
            return None
        if visitor is None:
            return _refused(403, "open the address that the command has printed, with its key")
        token = self.visitors.token(visitor)
        if request.method not in ("GET", "HEAD") and not same(request.headers.get(TOKEN, ""), token):
            return _refused(403, "without the token of the page: load the page again")
        request.state.visitor, request.state.token = visitor, token
        return None


def _refused(code: int, why: str) -> Response:
    return Response(f"{code}: {why}\n", code, media_type="text/plain")


def _length(headers: Headers) -> int:
    said = headers.get("content-length", "0")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0


def _limited(receive: Receive, largest: int) -> Receive:
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > largest:
            raise HTTPException(413, f"more than {largest:,} bytes")
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Any = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending
