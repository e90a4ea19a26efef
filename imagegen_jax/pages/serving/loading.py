"""A site that is still being made: its address answers at once, and its pages say so until they are there."""

from __future__ import annotations

import asyncio
import html
import pathlib
import string
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from imagegen_jax.pages.serving.guard import OPEN, Guard
from imagegen_jax.pages.serving.visitors import Visitors

if TYPE_CHECKING:
    from imagegen_jax.pages.serving.site import Site

HERE = pathlib.Path(__file__).parent


class Loading:
    """A site that `make` makes on a thread, since what it imports and opens takes seconds.

    Until then who opens a page is told so, and the page comes by itself; whatever else is asked waits.
    """

    def __init__(self, title: str, visitors: Visitors, make: Callable[[], Site]) -> None:
        self.title, self.visitors, self._make = title, visitors, make
        self._made: Future[Site | None] = Future()  # None: it failed
        self._error: BaseException | None = None
        routes = [
            Mount("/static", StaticFiles(directory=HERE / "static")),
            Route(
                "/favicon.ico", lambda request: FileResponse(HERE / "static/favicon.svg", media_type="image/svg+xml")
            ),
            Route("/{page:path}", self._page),
        ]
        self._meanwhile = Starlette(routes=routes, middleware=[Middleware(Guard, visitors=visitors, largest=0)])

    @property
    def app(self) -> Loading:
        """The application that a server serves: itself."""
        return self

    def begin(self, otherwise: Callable[[], None]) -> None:
        """Begins to make the site; calls `otherwise` where that fails."""
        threading.Thread(target=self._load, args=(otherwise,), daemon=True, name="loading").start()

    def check(self) -> None:
        """Raises what the making of the site has raised, if anything."""
        if self._error is not None:
            raise self._error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or (_is_page(scope) and not self._made.done()):
            return await self._meanwhile(scope, receive, send)
        site = await asyncio.shield(asyncio.wrap_future(self._made))  # a browser that goes away cancels its own wait
        gone = PlainTextResponse("503: the terminal of the server says what went wrong\n", 503)
        await (gone if site is None else site.app)(scope, receive, send)

    def _load(self, otherwise: Callable[[], None]) -> None:
        try:
            self._made.set_result(self._make())
        except BaseException as error:  # for the thread that serves to raise
            self._error = error
            self._made.set_result(None)
            otherwise()

    def _page(self, request: Request) -> Response:
        text = string.Template((HERE / "templates/loading.html").read_text())
        return HTMLResponse(text.substitute(title=html.escape(self.title)))


def _is_page(scope: Scope) -> bool:
    """Tells whether a request is that of a browser for a page, or for a file that pages share."""
    accepts = dict(scope["headers"]).get(b"accept", b"")
    shared = scope["path"].startswith(OPEN) and not scope["path"].startswith("/static/own/")
    return scope["method"] == "GET" and (shared or b"text/html" in accepts)
