"""Serves sites to a browser of tests."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import uvicorn

from imagegen_jax.pages.serving.loading import Loading
from imagegen_jax.pages.serving.server import address_of, listen
from imagegen_jax.pages.serving.site import Site

WIDTHS = (1280, 390)


@contextlib.contextmanager
def served(site: Site | Loading) -> Iterator[str]:
    """Serves a site on a thread; gives its address, with the key."""
    server = uvicorn.Server(uvicorn.Config(site.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    with listen(0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield address_of(listening, site)
        server.should_exit = True
        thread.join()
