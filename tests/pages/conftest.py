"""A real browser for pages that are served, where there is one."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; without one of the two, what needs it is skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra 'dev'")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs the browser Chromium: apt-get install chromium")
    sync_api.expect.set_options(timeout=60_000)  # a first drawing compiles its programs
    flags = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@dataclasses.dataclass
class Opened:
    """A page in the browser, and all that went wrong on it."""

    page: Any
    wrong: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address as a new visitor, at a width and a colour scheme; fails at the end where a page had errors,
    asked for anything from elsewhere, or was wider than its window.
    """
    opened: list[Opened] = []

    def open_at(address: str, width: int = 1280, scheme: str = "light") -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        found = Opened(context.new_page())
        opened.append(found)
        page, origin = found.page, address.split("/?")[0]
        page.set_default_timeout(60_000)
        page.on("console", lambda said: found.wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: found.wrong.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((origin, "data:", "blob:")) else found.wrong.append(asked.url),
        )
        page.goto(address)
        return page

    yield open_at
    for found in opened:
        width = found.page.viewport_size["width"]
        if not found.page.is_closed() and found.page.locator("html").bounding_box()["width"] > width:
            found.wrong.append(f"wider than its window of {width} pixels")
        assert found.wrong == []
        found.page.context.close()
