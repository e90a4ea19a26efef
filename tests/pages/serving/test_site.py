"""A site: its pages, files and errors, and the same in a browser at two widths."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from browsing import WIDTHS, served
from starlette.testclient import TestClient

from imagegen_jax.pages.serving import server
from imagegen_jax.pages.serving.site import Site


def test_values_are_escaped(client: TestClient) -> None:
    assert "<p>&lt;b&gt;&amp;</p>" in client.get("/").text


@pytest.mark.parametrize("name", ["../secret.txt", "%2e%2e/secret.txt", "link.txt", "none.txt", "", "a" * 300, "%00"])
def test_files_outside_a_folder_are_not_found(client: TestClient, name: str) -> None:
    assert client.get(f"/files/{name}").status_code == 404


def test_files_inside_are(client: TestClient) -> None:
    assert client.get("/files/a.txt").text == "kept"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 900])
def test_what_is_no_object_is_refused_in_words(client: TestClient, body: bytes) -> None:
    answer = client.post("/count", content=body)
    assert answer.status_code == 400 and answer.json()["error"]


def test_a_taken_port_is_an_error_only_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port {port} is taken"):
            server.listen(port)
        monkeypatch.setattr(server, "PORT", port)
        with server.listen() as free:
            assert free.getsockname()[0] == "127.0.0.1" and free.getsockname()[1] != port


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_a_job_is_begun_and_stopped_by_keyboard(open_page: Callable[..., Any], site: Site, width: int) -> None:
    from playwright.sync_api import expect

    with served(site) as address:
        page = open_page(address, width, "dark" if width == 390 else "light")
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.locator("#go")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#say")).to_contain_text("at ")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        expect(page.locator("#say")).to_have_text("stopped")
