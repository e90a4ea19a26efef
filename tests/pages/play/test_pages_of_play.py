"""The playground's pages: what they show, and what they give to whom."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable

import numpy as np
import pytest
from starlette.testclient import TestClient

from imagegen_jax.pages.play import training
from imagegen_jax.pages.play.gallery import Gallery
from imagegen_jax.pages.play.pictures import png_of
from imagegen_jax.pages.play.playground import Playground
from imagegen_jax.pages.play.routes import play_site
from imagegen_jax.pages.serving.visitors import Visitors


@pytest.fixture
def client(visitor: Callable[[], TestClient]) -> TestClient:
    return visitor()


def test_every_page_shows_what_its_run_can_do(client: TestClient) -> None:
    pages = {path: client.get(path) for path in ("/", "/explore", "/edit", "/compare", "/training", "/gallery")}
    assert {answer.status_code for answer in pages.values()} == {200}
    assert "a&lt;b" in pages["/"].text and "a<b" not in pages["/"].text and 'name="guidance"' in pages["/"].text
    assert re.findall(r"<option>(\d+)</option>", pages["/edit"].text) == ["2", "4", "8"]  # of 8 pixels
    of_gan = client.get("/?run=1").text
    assert 'name="guidance"' not in of_gan and "/training" not in of_gan and "/edit" not in of_gan
    assert "along directions" in client.get("/explore?run=1").text


@pytest.mark.parametrize("run", ["2", "-1", "x", "", "99999", "١"])
def test_runs_that_are_not_there_are_not_found(client: TestClient, run: str) -> None:
    assert client.get("/", params={"run": run}).status_code == 404
    assert not run or client.get(f"/training/{run}").status_code == 404


def test_pictures_are_their_visitors_alone(client: TestClient, visitor: Callable[[], TestClient]) -> None:
    content = png_of(np.zeros((8, 8, 1), np.uint8), {"run": "denoiser", "seed": 1, "kind": "draw"})
    name = client.post("/gallery", content=content).json()["name"]
    assert client.get(f"/gallery/{name}").content == content and name in client.get("/gallery").text
    assert client.get(f"/gallery/{name}/settings").json()["seed"] == 1
    other = visitor()
    assert other.get(f"/gallery/{name}").status_code == 404 and name not in other.get("/gallery").text
    other.post(f"/gallery/{name}/remove")
    assert client.get(f"/gallery/{name}").status_code == 200
    client.post(f"/gallery/{name}/remove")
    assert client.get(f"/gallery/{name}").status_code == 404
    assert client.post("/gallery", content=b"none").status_code == 400


def test_pictures_that_are_damaged_or_say_little_are_shown_as_such(client: TestClient, ground: Playground) -> None:
    """And each is used with the run that it is of."""
    names = []
    for settings in ({"seed": 1}, {"run": "gan"}, {"run": "gone", "seed": 3, "kind": "walk"}, {}):
        answer = client.post("/gallery", content=png_of(np.zeros((8, 8, 1), np.uint8), settings))
        names.append(answer.json()["name"])
    (folder,) = [path for path in ground.gallery.root.iterdir()]
    (folder / names[0]).write_bytes(b"cut off")
    page = client.get("/gallery?run=0").text
    assert page.count("<figure") == 4 and page.count("a damaged file") == 2 and "gone, seed 3, walk" in page
    assert re.search(r"/\?run=1&amp;use=", page) and re.search(r"/\?run=0&amp;use=", page)


def test_photos_of_twenty_megabytes_are_taken_and_no_larger_ones(client: TestClient) -> None:
    for length, code in ((20 * 2**20, 400), (20 * 2**20 + 1, 413)):  # of no bytes: no picture
        assert client.post("/upload", content=b"", headers={"content-length": str(length)}).status_code == code


def test_files_of_a_run_outside_its_grids_are_not_found(client: TestClient, folder: pathlib.Path) -> None:
    assert client.get("/training/0/grids/00000100.png").status_code == 200
    for name in ("../experiment.json", "%2e%2e/metrics.jsonl", "none.png", "/etc/passwd"):
        assert client.get(f"/training/0/grids/{name}").status_code == 404
    assert client.get("/training/1/grids/00000100.png").status_code == 404


def test_a_run_that_trains_is_read_as_it_goes_on(ground: Playground, folder: pathlib.Path) -> None:
    place = ground.places[0]
    state = training.state_of(place)
    assert state["step"] == 180 and state["steps"] == 400 and state["healthy"]
    assert state["grids"] == ["00000100.png", "00000180.png"] and len(state["curves"]["denoise/loss"]) == 10
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('oise/loss": 0.1}\n' + json.dumps({"step": 220, "health/diversity": 0.0}) + "\n")
    later = training.state_of(place)
    assert later["step"] == 220 and later["curves"]["denoise/loss"][-1] == (200, 0.1)


def test_a_run_is_ill_until_it_is_back_in_its_limits(ground: Playground, folder: pathlib.Path) -> None:
    told = []
    for step, diversity in ((220, 1.0), (240, 0.0), (260, 1.0)):
        with (folder / "metrics.jsonl").open("a") as file:
            file.write("\n" + json.dumps({"step": step, "health/diversity": diversity}) + "\n")
        state = training.state_of(ground.places[0])
        told.append((state["healthy"], len(state["health"])))
    assert told == [(True, 0), (False, 1), (True, 1)]


def test_a_new_server_has_the_visitors_and_their_pictures(client: TestClient, ground: Playground) -> None:
    content = png_of(np.zeros((8, 8, 1), np.uint8), {"run": "denoiser", "seed": 1, "kind": "draw"})
    name = client.post("/gallery", content=content).json()["name"]
    again = play_site(Playground(ground.places, Gallery(ground.gallery.root)), Visitors(b"p" * 32), warms=False)
    after = TestClient(again.app, base_url="http://127.0.0.1", cookies=dict(client.cookies))
    assert after.get(f"/gallery/{name}").content == content
    other = TestClient(
        play_site(ground, Visitors(b"q" * 32), warms=False).app,
        base_url="http://127.0.0.1",
        cookies=dict(client.cookies),
    )
    assert other.get(f"/gallery/{name}").status_code == 403
