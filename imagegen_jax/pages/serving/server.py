"""The server of a site: on this machine alone, at a port that is free, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import html
import pathlib
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import uvicorn

from imagegen_jax.pages.serving.loading import Loading

if TYPE_CHECKING:
    from imagegen_jax.pages.serving.site import Site

PORT = 8765  # where no other is asked for, and this one is free
HOST = "127.0.0.1"


def listen(port: int | None = None) -> socket.socket:
    """Opens a port of this machine to itself: `port`, 0 for any; None: `PORT`, or any where that is taken.

    Raises ValueError where the port that was asked for is taken.
    """
    try:
        return socket.create_server((HOST, PORT if port is None else port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        if port is None:
            return socket.create_server((HOST, 0))
        taken = "is taken" if error.errno == errno.EADDRINUSE else "is for the system alone"
        raise ValueError(f"--port {port} {taken}: give another, or leave it out, and a free one is found") from error


def address_of(listening: socket.socket, site: Site | Loading) -> str:
    """Returns the address that a browser opens, with the key that makes it a visitor."""
    return f"http://{HOST}:{listening.getsockname()[1]}/?key={site.visitors.key}"


def serve(
    site: Site | Loading, listening: socket.socket, say: Callable[[str], None] = print, browse: bool = False
) -> None:
    """Serves a site until Ctrl-C; says its address, and with `browse` opens it in the browser, once it answers.

    Raises what the making of a site that is still being loaded has raised.
    """
    address = address_of(listening, site)

    def started() -> None:
        say(f"{site.title}: {address}\n(this machine alone; Ctrl-C ends it)")
        if leading is not None and not webbrowser.open(leading):
            say("no browser was found: open the address in one")
        if isinstance(site, Loading):
            site.begin(otherwise=server.end)

    config = uvicorn.Config(
        site.app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off"
    )
    with listening, page_to(address) if browse else contextlib.nullcontext() as leading:
        with contextlib.suppress(KeyboardInterrupt):
            server = _Server(config, started)
            server.run(sockets=[listening])
    if isinstance(site, Loading):
        site.check()


@contextlib.contextmanager
def page_to(address: str) -> Iterator[str]:
    """Writes a page that leads to an address, for its owner alone to read; gives the page's address while it is there.

    A browser gets that one: what is among the words of its command, other users of the machine read with `ps`.
    """
    with tempfile.TemporaryDirectory(prefix="imagegen-") as folder:
        page = pathlib.Path(folder) / "open.html"
        page.touch(0o600)
        page.write_text(f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">\n')
        yield page.as_uri()


class _Server(uvicorn.Server):
    """A server that calls back when it answers."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer."""
        await super().startup(sockets)
        await asyncio.to_thread(self._on_start)

    def end(self) -> None:
        """Ends the serving, from any thread."""
        self.should_exit = True
