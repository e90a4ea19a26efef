"""The gallery when its server, or the browser's tab, is killed: no picture that was drawn is lost."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from browsing import served

from imagegen_jax.pages.play import playground
from imagegen_jax.pages.play.drawing import Stepwise, drawn
from imagegen_jax.pages.play.gallery import Gallery
from imagegen_jax.pages.play.pictures import settings_in
from imagegen_jax.pages.serving.site import Site

FILLING = """
import pathlib, sys
import numpy as np
from imagegen_jax.pages.play.gallery import Gallery

image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
for i in range(100_000):
    print(Gallery(pathlib.Path(sys.argv[1])).add("a", image, {"seed": i}), flush=True)
"""


@pytest.mark.parametrize("more", [0, 5, 23])
def test_a_gallery_whose_process_is_killed_as_it_writes_holds_all_that_was_told(
    tmp_path: pathlib.Path, more: int
) -> None:
    process = subprocess.Popen([sys.executable, "-c", FILLING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(1 + more)]
    process.kill()
    told += process.stdout.read().split()
    process.wait()
    gallery = Gallery(tmp_path)
    there = gallery.names("a")
    assert set(told) <= set(there) and len(there) - len(told) <= 1  # one may be whole, and not yet told
    for i, name in enumerate(told):
        assert gallery.settings("a", name) == {"seed": i}


def test_no_name_leads_out_of_a_visitors_pictures(tmp_path: pathlib.Path) -> None:
    gallery, picture = Gallery(tmp_path), np.zeros((4, 4, 1), np.uint8)
    name, other = gallery.add("a", picture, {"seed": 1}), gallery.add("b", picture, {"seed": 2})
    (tmp_path / "a" / "notes.png").write_bytes((tmp_path / "a" / name).read_bytes())
    assert gallery.names("a") == [name] and gallery.settings("a", name) == {"seed": 1}
    for wrong in (f"../b/{other}", "notes.png", "", ".", str(tmp_path / "b" / other)):
        assert gallery.path("a", wrong) is None and gallery.settings("a", wrong) == {}
        gallery.remove("a", wrong)
    assert gallery.settings("b", other) == {"seed": 2} and (tmp_path / "a" / "notes.png").exists()


class Playing:
    """`imagegen play` with the digits of the package in a process of its own, and a visitor of it."""

    def __init__(self, folder: pathlib.Path, cookies: Any = None) -> None:
        command = [sys.executable, "-m", "imagegen_jax", "play", "--port", "0", "--gallery", str(folder)]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        address = next(line for line in self.process.stdout if "http://" in line).split()[-1]
        self.client = httpx.Client(base_url=address.split("/?")[0], follow_redirects=True, timeout=300, cookies=cookies)
        self.page = self.client.get(address if cookies is None else "/gallery").text  # comes when the model is there
        self.client.headers["x-token"] = re.findall(r'name="token" content="([^"]+)"', self.page)[0]

    def draw(self, **given: Any) -> Iterator[str]:
        """Begins a drawing; yields the lines of what its job tells."""
        job = self.client.post("/draw", json=given).json()["job"]
        with self.client.stream("GET", f"/jobs/{job}") as stream:
            yield from stream.iter_lines()


@pytest.mark.slow
def test_a_killed_server_loses_no_picture(tmp_path: pathlib.Path) -> None:
    """Killed in the middle of a second drawing; the next server shows the same visitor all of the first."""
    playing = Playing(tmp_path)
    try:
        assert "event: done" in list(playing.draw(n=8, seed=5, steps=2))
        next(line for line in playing.draw(n=8, seed=50, steps=256) if line == "event: progress")
    finally:
        playing.process.send_signal(signal.SIGKILL)
        playing.process.wait()
    again = Playing(tmp_path, playing.client.cookies)
    try:
        assert len(re.findall(r"<figure", again.page)) == 8
        for seed in range(5, 13):
            assert f"seed {seed}" in again.page
        for name in set(re.findall(r"/gallery/([\w-]+\.png)", again.page)):
            assert settings_in(again.client.get(f"/gallery/{name}").content)["solver_steps"] == 2
    finally:
        again.process.kill()
        again.process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["closed", "crashed"])
def test_a_tab_that_goes_while_it_draws_loses_no_picture(
    open_page: Callable[..., Any], site: Site, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server draws on, and another tab of the browser has the pictures."""
    playwright = pytest.importorskip("playwright.sync_api")
    expect = playwright.expect
    gone = threading.Event()

    def held(*arguments: Any) -> Stepwise:
        drawing = drawn(*arguments)
        yield next(drawing)
        gone.wait(60)
        return (yield from drawing)

    monkeypatch.setattr(playground, "drawn", held)
    with served(site) as address:
        page = open_page(address)
        page.locator("[name=steps]").fill("64")
        page.get_by_role("button", name="draw").click()
        expect(page.locator("#say")).to_contain_text("step ")
        context = page.context
        if way == "crashed":
            with page.expect_event("crash"), contextlib.suppress(playwright.Error):  # which says that it has crashed
                page.goto("chrome://crash", timeout=5_000)
        page.close()
        gone.set()
        other = context.new_page()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            other.goto(f"{address.split('/?')[0]}/gallery")
            if other.locator("figure").count():
                break
            time.sleep(0.1)
        expect(other.locator("figure")).to_have_count(8)
