"""Places to play with, of small networks that were never trained, and a site of them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from latent_models import MODELS, networks
from PIL import Image
from playthings import DENOISER, Made, denoiser_nets
from starlette.testclient import TestClient

from imagegen_jax.pages.play.gallery import Gallery
from imagegen_jax.pages.play.playground import Playground
from imagegen_jax.pages.play.routes import play_site
from imagegen_jax.pages.serving.site import Site
from imagegen_jax.pages.serving.visitors import Visitors


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """What a run that is still training has written, its last line in half."""
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "experiment.json").write_text(json.dumps({"steps": 400}))
    lines = [{"step": i, "time": i, "denoise/loss": 1 / (1 + i), "denoise/grad_norm": 1.0} for i in range(0, 200, 20)]
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 200, "den')
    for step in (100, 180):
        Image.fromarray(np.full((16, 16), step, np.uint8)).save(tmp_path / "run" / "samples" / f"{step:08d}.png")
    return tmp_path / "run"


@pytest.fixture
def ground(tmp_path: pathlib.Path, folder: pathlib.Path) -> Playground:
    """A denoiser of three classes with a folder, and a GAN."""
    denoiser = Made("denoiser", DENOISER, denoiser_nets(), folder, ("a<b", "cat", "dog"))
    return Playground((denoiser, Made("gan", MODELS["cgan"], networks("cgan"))), Gallery(tmp_path / "gallery"))


@pytest.fixture
def site(ground: Playground) -> Site:
    """The site of these, which makes nothing ready before it is asked."""
    return play_site(ground, Visitors(b"p" * 32), warms=False)


@pytest.fixture
def visitor(site: Site) -> Callable[[], TestClient]:
    """Makes a new visitor, whose requests have the token."""

    def make() -> TestClient:
        client = TestClient(site.app, base_url="http://127.0.0.1")
        assert client.get(f"/?key={site.visitors.key}").status_code == 200
        name = site.visitors.named(client.cookies[site.visitors.cookie_name])
        client.headers["x-token"] = site.visitors.token(name or "")
        return client

    return make


@pytest.fixture
def ask(visitor: Callable[[], TestClient]) -> Callable[..., dict[str, Any]]:
    """Sends something to a path that begins a job, and returns what its end tells."""
    mine = visitor()

    def asked(path: str, client: TestClient = mine, **given: Any) -> dict[str, Any]:
        answer = client.post(path, json=given)
        if "job" not in answer.json():
            return {"status": answer.status_code, **answer.json()}
        end = client.get(f"/jobs/{answer.json()['job']}").text.strip().split("\n\n")[-1].split("\n")
        return {"end": end[1].removeprefix("event: "), **json.loads(end[2].removeprefix("data: "))}

    return asked
