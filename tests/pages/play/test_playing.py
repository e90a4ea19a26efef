"""What the playground draws, explores, edits and compares, as a client of its pages asks for it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from latent_models import styled
from PIL import Image
from playthings import DENOISER, denoiser_nets
from starlette.testclient import TestClient

from imagegen_jax.diffusion.sampling.ancestral import EulerAncestral
from imagegen_jax.pages.play import drawing, edits, exploring, pictures, settings
from imagegen_jax.pages.play.pictures import png_of
from imagegen_jax.pages.play.places import Opened
from imagegen_jax.pages.play.playground import Playground

Ask = Callable[..., dict[str, Any]]
PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))


def ended(drawing: Any) -> np.ndarray:
    while True:
        try:
            next(drawing)
        except StopIteration as end:
            return end.value


def test_a_picture_is_drawn_kept_and_drawn_again_from_its_settings(ask: Ask, ground: Playground) -> None:
    done = ask("/draw", n=3, seed=5, label=2, guidance=1.5, steps=3)
    assert done["end"] == "done" and [p["seed"] for p in done["pictures"]] == [5, 6, 7]
    made = done["pictures"][1]["settings"]
    assert made["run"] == "denoiser" and made["step"] == 200 and made["solver_steps"] == 3 and made["label"] == 2
    again = ask("/draw", n=1, seed=6, label=2, guidance=1.5, steps=3)
    one, other = (pixels(p["url"]).astype(int) for p in (done["pictures"][1], again["pictures"][0]))
    assert np.abs(one - other).max() <= 1
    elsewhere = ask("/draw", n=1, seed=6, label=1, guidance=1.5, steps=3)["pictures"][0]
    assert np.abs(one - pixels(elsewhere["url"])).max() > 3
    (visitor,) = [path for path in ground.gallery.root.iterdir()]
    assert len(list(visitor.glob("*.png"))) == 5


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"run": 2}, "run"), ({"run": "x"}, "run"), ({"n": 17}, "n=17"), ({"seed": -1}, "seed"), ({"label": 3}, "3"),
        ({"label": "mouse"}, "mouse"), ({"steps": 0}, "steps"), ({"guidance": 1e9}, "guidance"), ({"step": 150}, "150"),
        ({"guidance": "nan"}, "guidance"), ({"n": True}, "n"), ({"step": [1]}, "step"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(ask: Ask, given: dict[str, Any], word: str) -> None:
    answer = ask("/draw", **given)
    assert answer["status"] == 400 and word in answer["error"]


def test_a_model_of_latents_draws_each_seed_alike(ask: Ask) -> None:
    many, one = ask("/draw", run=1, n=3, seed=4), ask("/draw", run=1, n=1, seed=5)
    np.testing.assert_array_equal(pixels(many["pictures"][1]["url"]), pixels(one["pictures"][0]["url"]))


@pytest.mark.parametrize("run", [0, 1])
def test_the_way_between_two_seeds_begins_and_ends_at_them(ask: Ask, run: int) -> None:
    way = ask("/explore", run=run, way="between", n=4, seed=1, other=9)
    ends = [ask("/draw", run=run, n=1, seed=seed)["pictures"][0]["url"] for seed in (1, 9)]
    shown = [pixels(picture["url"]).astype(int) for picture in way["pictures"]]
    last = way["pictures"][-1]["settings"]
    assert (last["kind"], last["seed"], last["other"], last["n"], last["image"]) == ("between", 1, 9, 4, 3)
    assert len(shown) == 4 and not any(picture["name"] for picture in way["pictures"])
    for found, wanted in zip((shown[0], shown[-1]), map(pixels, ends), strict=True):
        assert np.abs(found - wanted).max() <= 1
    assert np.abs(shown[1] - shown[0]).max() > 1


def test_the_way_of_a_solver_that_adds_noise_ends_at_the_other_seed() -> None:
    model = dataclasses.replace(DENOISER, solver=EulerAncestral())
    opened, here = Opened(model, denoiser_nets(), 1), settings.DrawSettings(n=4, seed=1, label=1, guidance=1.0, steps=4)
    way = ended(exploring.between(opened, here, {"other": 9})).astype(int)
    wanted = [ended(drawing.drawn(opened, dataclasses.replace(here, seed=seed)))[0] for seed in (1, 9)]
    for found, one in zip((way[0], way[-1]), wanted, strict=True):
        assert np.abs(found - one).max() <= 1


def test_directions_move_images_and_none_does_not(ask: Ask) -> None:
    here = ask("/explore", run=1, way="walk", n=1, seed=1, strengths=[0, 0], keep=True)["pictures"][0]
    there = ask("/explore", run=1, way="walk", n=1, seed=1, strengths=[4, 0])["pictures"][0]
    same = ask("/draw", run=1, n=1, seed=1)["pictures"][0]
    np.testing.assert_array_equal(pixels(here["url"]), pixels(same["url"]))
    assert here["settings"]["strengths"] == [0, 0] and there["settings"]["strengths"] == [4, 0]
    assert here["name"] and not np.array_equal(pixels(here["url"]), pixels(there["url"]))
    assert "list" in ask("/explore", run=1, way="walk", strengths="1")["error"]


@pytest.mark.slow
def test_styles_are_mixed_and_moved() -> None:
    """With all layers mixed, images are those of the columns; a strength of 0 moves nothing."""
    opened, two = Opened(*styled(), 1), settings.DrawSettings(n=4, seed=1)

    def shown(way: str, **given: Any) -> np.ndarray:
        return ended(exploring.WAYS[way](opened, two, given))

    images = shown("mix", other=50, first=0, last=opened.model.layers - 1).reshape(2, 2, 8, 8, 3)
    np.testing.assert_array_equal(images[0], images[1])
    images = shown("mix", other=50, first=0, last=0).reshape(2, 2, 8, 8, 3)
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[:, 0], images[:, 1])
    still, moved = shown("walk", strengths=[0]), shown("walk", strengths=[5])
    assert len(still) == 4 and not np.array_equal(still, moved)


def test_ways_that_a_model_has_not_are_refused(ask: Ask) -> None:
    for wrong in ("away", ["mix"], {}, None):
        assert f"way {wrong!r}" in ask("/explore", way=wrong)["error"]
    for run, way in ((0, "mix"), (0, "walk"), (1, "mix")):
        told = ask("/explore", run=run, way=way, strengths=[1])
        assert told["end"] == "failed" and ("latents" in told["error"] or "styles" in told["error"])
    assert set(exploring.WAYS) == {"between", "mix", "walk"}


def test_two_checkpoints_draw_the_same_seeds(ask: Ask) -> None:
    done = ask("/compare", run=0, step=200, other=0, other_step=100, n=1, seed=3)
    one, other = done["sides"]
    assert (one["at"], other["at"]) == (200, 100) and one["pictures"][0]["seed"] == other["pictures"][0]["seed"] == 3
    assert not np.array_equal(pixels(one["pictures"][0]["url"]), pixels(other["pictures"][0]["url"]))
    assert "other" in ask("/compare", run=0)["error"] or ask("/compare", run=0)["status"] == 400


# --- edits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def upload(visitor: Callable[[], TestClient]) -> tuple[TestClient, str]:
    client = visitor()
    answer = client.post("/upload?run=0", content=png_of(PHOTO)).json()
    assert pixels(answer["url"]).shape == (8, 8, 3)
    return client, answer["upload"]


def mask(painted: slice) -> str:
    layer = np.zeros((32, 32, 4), np.uint8)
    layer[painted, :, 3] = 255
    return base64.b64encode(png_of(layer)).decode()


def test_what_is_not_painted_stays(ask: Ask, upload: tuple[TestClient, str]) -> None:
    client, name = upload
    done = ask("/edit", client, edit="inpaint", upload=name, mask=mask(slice(0, 16)), n=2)
    given = edits.square_of(png_of(PHOTO), 8, 3)
    images = np.stack([pixels(picture["url"]) for picture in done["pictures"]])
    np.testing.assert_array_equal(images[:, 4:], np.stack([given[4:]] * 2))
    assert not np.array_equal(images[0, :4], given[:4]) and not np.array_equal(*images)
    made = pictures.settings_in(client.get(f"/gallery/{done['pictures'][1]['name']}").content)
    assert made["picture"] == hashlib.sha256(png_of(PHOTO)).hexdigest()
    again = ask("/edit", client, edit=made["kind"], upload=name, **{key: made[key] for key in ("mask", "n", "seed")})
    np.testing.assert_array_equal(pixels(again["pictures"][made["image"]]["url"]), images[1])
    assert made["mask"] not in client.get("/gallery").text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "more"),
    [("vary", {"strength": 0.5}), ("enlarge", {"factor": 4}), ("restore", {"sigma": 0.8}), ("colour", {})],
)
def test_edits_make_pictures_of_the_models_size(
    ask: Ask, upload: tuple[TestClient, str], edit: str, more: dict[str, Any]
) -> None:
    client, name = upload
    done = ask("/edit", client, edit=edit, upload=name, n=1, **more)
    assert done["end"] == "done" and pixels(done["pictures"][0]["url"]).shape == (8, 8, 3)
    made = done["pictures"][0]["settings"]
    assert made["kind"] == edit and {name: made[name] for name in more} == more


def test_wrong_edits_are_named(ask: Ask, upload: tuple[TestClient, str], visitor: Callable[[], TestClient]) -> None:
    client, name = upload
    assert "edit 'erase'" in ask("/edit", client, edit="erase", upload=name)["error"]
    assert "edit nothing" in ask("/edit", client, run=1, edit="vary", upload=name)["error"]
    assert "choose it again" in ask("/edit", client, edit="vary", upload="none")["error"]
    assert "choose it again" in ask("/edit", visitor(), edit="vary", upload=name)["error"]  # another visitor's
    for wrong in ("", "%%%", mask(slice(0, 0)), base64.b64encode(b"text").decode()):
        assert "mask" in ask("/edit", client, edit="inpaint", upload=name, mask=wrong)["error"]
    assert client.post("/upload", content=b"no picture").status_code == 400
    assert "factor" in ask("/edit", client, edit="enlarge", upload=name, factor=3)["error"]


def test_a_visitor_keeps_few_uploads() -> None:
    uploads = edits.Uploads()
    names = [uploads.add("a", png_of(PHOTO)) for _ in range(edits.KEPT + 1)]
    assert uploads.of("a", names[-1]) == png_of(PHOTO)
    with pytest.raises(ValueError, match="choose it again"):
        uploads.of("a", names[0])


def test_abilities_are_the_models() -> None:
    can = settings.abilities_of(DENOISER)
    assert can.classes == 3 and can.steps == 4 and can.guidance and not can.latents
    assert edits.edits_of(DENOISER) == ("inpaint", "vary", "enlarge", "restore", "colour")
