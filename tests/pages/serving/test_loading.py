"""A site that is still being made: its pages say so, and what else is asked waits until it is there."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from browsing import WIDTHS, served
from starlette.testclient import TestClient

from imagegen_jax.pages.serving import server
from imagegen_jax.pages.serving.loading import Loading
from imagegen_jax.pages.serving.site import Site

PAGE = {"accept": "text/html,*/*"}


@pytest.fixture
def loading(site: Site, gate: threading.Event) -> Loading:
    """The site, which is made when the gate opens."""

    def make() -> Site:
        assert gate.wait(20)
        return site

    return Loading("<count>", site.visitors, make)


def test_pages_say_that_they_are_being_loaded_and_what_else_is_asked_waits(
    loading: Loading, site: Site, gate: threading.Event
) -> None:
    with TestClient(loading.app, base_url="http://127.0.0.1") as client:  # one loop for all its requests
        loading.begin(otherwise=pytest.fail)
        page = client.get(f"/?key={site.visitors.key}", headers=PAGE)
        assert page.status_code == 200 and "being loaded" in page.text and "&lt;count&gt;" in page.text
        assert client.get("/static/loading.js").status_code == client.get("/favicon.ico").status_code == 200
        assert client.get("/", headers=PAGE | {"host": "evil.example"}).status_code == 400
        token = {"x-token": site.visitors.token(site.visitors.named(client.cookies[site.visitors.cookie_name]) or "")}
        threading.Timer(0.3, gate.set).start()
        start = time.perf_counter()
        assert "job" in client.post("/count", json={"to": 1}, headers=token).json()
        assert time.perf_counter() - start > 0.25
        assert "<p>&lt;b&gt;&amp;</p>" in client.get("/", headers=PAGE).text


def test_without_the_key_nobody_sees_that_something_is_being_loaded(loading: Loading) -> None:
    stranger = TestClient(loading.app, base_url="http://127.0.0.1")
    assert stranger.get("/", headers=PAGE).status_code == stranger.get("/none", headers=PAGE).status_code == 403


def test_what_cannot_be_loaded_ends_the_server_with_its_error(site: Site) -> None:
    def make() -> Site:
        raise ValueError("no such model")

    said: list[str] = []
    loading = Loading("count", site.visitors, make)
    with ThreadPoolExecutor(1) as thread:  # where no browser of another test has its loop
        ending = thread.submit(server.serve, loading, server.listen(0), said.append)
        with pytest.raises(ValueError, match="no such model"):
            ending.result()
    assert re.search(r"http://127\.0\.0\.1:\d+/\?key=", said[0])


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_comes_by_itself(
    open_page: Callable[..., Any], loading: Loading, gate: threading.Event, width: int
) -> None:
    from playwright.sync_api import expect

    with served(loading) as address:
        loading.begin(otherwise=pytest.fail)
        page = open_page(address, width, "dark" if width == 390 else "light")
        expect(page.locator("#say")).to_contain_text("being loaded")
        gate.set()
        expect(page.locator("#go")).to_be_visible()
