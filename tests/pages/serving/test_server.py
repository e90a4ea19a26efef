"""The server: what it says, and what it hands to a browser."""

from __future__ import annotations

import pathlib
import stat
import urllib.parse
import webbrowser
from typing import Any

import pytest

from imagegen_jax.pages.serving import server
from imagegen_jax.pages.serving.site import Site


def test_a_browser_is_led_to_the_address_by_a_file_of_the_owner_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int, str]] = []

    def opened(address: str) -> bool:
        page = pathlib.Path(urllib.parse.urlsplit(address).path)
        seen.append((address, page.stat().st_mode, page.parent.stat().st_mode, page.read_text()))
        return True

    def run(self: Any, sockets: Any) -> None:
        self._on_start()

    monkeypatch.setattr(webbrowser, "open", opened)
    monkeypatch.setattr(server._Server, "run", run)
    said: list[str] = []
    server.serve(site, server.listen(0), said.append, browse=True)
    ((address, mode, folder, text),) = seen
    assert address.startswith("file://") and site.visitors.key not in address
    assert f"/?key={site.visitors.key}" in text and f"/?key={site.visitors.key}" in said[0]
    assert stat.S_IMODE(mode) == 0o600 and stat.S_IMODE(folder) == 0o700
    assert not pathlib.Path(urllib.parse.urlsplit(address).path).exists()
