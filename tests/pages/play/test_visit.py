"""Visits of the playground in a browser at two widths, largely by keyboard: a denoiser, and a GAN that has styles."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from browsing import WIDTHS, served
from latent_models import styled
from playthings import DENOISER, Made, denoiser_nets

from imagegen_jax.pages.play.gallery import Gallery
from imagegen_jax.pages.play.playground import Playground
from imagegen_jax.pages.play.routes import play_site
from imagegen_jax.pages.serving.site import Site
from imagegen_jax.pages.serving.visitors import Visitors

Look = Callable[[str], Any]  # takes a picture of the page


def go_to(page: Any, name: str) -> None:
    """Follows a link of the page's head by keyboard, and waits until the page's script is there."""
    page.get_by_role("navigation").get_by_role("link", name=name).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{name.lower()}*")


def done(page: Any, place: str, count: int) -> None:
    """Waits for the pictures of a job."""
    from playwright.sync_api import expect

    expect(page.locator("#say")).to_contain_text("done in")
    expect(page.locator(f"{place} figure")).to_have_count(count)


def draws(page: Any) -> bytes:
    """Draws eight pictures of the second class by keyboard, and downloads the first."""
    from playwright.sync_api import expect

    page.get_by_label("a<b").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("cat")).to_be_checked()
    page.locator("[name=seed]").fill("12")
    page.keyboard.press("Enter")
    done(page, "#out", 8)
    with page.expect_download() as download:
        page.locator("#out a").first.click()
    content: bytes = pathlib.Path(download.value.path()).read_bytes()
    return content


def keeps(page: Any, content: bytes) -> None:
    """Deletes a picture of the gallery, takes one in, which is there already, and draws with its settings."""
    from playwright.sync_api import expect

    go_to(page, "Gallery")
    expect(page.locator("figure")).to_have_count(8)
    page.get_by_role("button", name="delete").first.click()
    expect(page.locator("figure")).to_have_count(7)
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": content})
    expect(page.locator("figure")).to_have_count(7)
    page.get_by_role("link", name="use").first.click()
    page.wait_for_url("**use=*")
    expect(page.locator("[name=seed]")).not_to_have_value("0")


def drops(page: Any, content: bytes) -> None:
    """Drops a file on the page."""
    page.evaluate_handle("0")  # the page is there
    transfer = page.evaluate_handle(
        "bytes => { const data = new DataTransfer();"
        " data.items.add(new File([new Uint8Array(bytes)], 'p.png', {type: 'image/png'})); return data; }",
        list(content),
    )
    page.dispatch_event("html", "drop", {"dataTransfer": transfer})


def goes_ways(page: Any) -> None:
    """Goes from one seed to another, and looks at the last frame."""
    from playwright.sync_api import expect

    go_to(page, "Explore")
    page.get_by_role("button", name="draw").click()
    expect(page.locator("#film")).to_be_visible()
    page.locator("#when").focus()
    page.keyboard.press("End")
    expect(page.locator("#film output")).to_have_text("16")


def edits(page: Any, content: bytes, look: Look) -> None:
    """Paints on a picture with the pointer and with keys, and has that drawn anew; then each other edit."""
    from playwright.sync_api import expect

    go_to(page, "Edit")
    drops(page, content)
    expect(page.locator("#say")).to_contain_text("is here")
    page.locator("#mask").click(position={"x": 60, "y": 60})
    page.get_by_role("button", name="clear the mask").focus()
    page.locator("#mask").focus()
    for key in ("ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(page.locator("#say")).to_contain_text("at 180, 160")
    look("paint")
    for number, name in enumerate(("paint out", "vary", "enlarge", "sharpen", "colour")):
        page.get_by_label(name, exact=True).focus()
        page.keyboard.press("Space")
        expect(page.locator("#mask")).to_be_visible(visible=number == 0)
        page.locator("#out").evaluate("place => place.replaceChildren()")
        page.get_by_role("button", name="edit").click()
        done(page, "#out", 4)
        expect(page.locator("#out figcaption").nth(1)).to_contain_text("2 of 4")
        look(name.replace(" ", "_"))


def compares(page: Any) -> None:
    """Draws the same seeds by two checkpoints."""
    go_to(page, "Compare")
    page.locator("#other").select_option("0,100")
    page.get_by_role("button", name="compare").click()
    done(page, "#sides", 16)


def watches(page: Any) -> None:
    """Looks at curves, grids and health of a run that trains."""
    from playwright.sync_api import expect

    go_to(page, "Training")
    expect(page.locator(".u-wrap")).to_have_count(2)
    expect(page.locator("#grids img")).to_have_count(2)
    expect(page.locator("#health")).to_contain_text("nothing is out")


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_a_visit_of_a_denoiser(open_page: Callable[..., Any], site: Site, width: int, tmp_path: pathlib.Path) -> None:
    """Draws, downloads, deletes, takes in, uses again, explores, drops, paints, edits, compares, watches."""
    with served(site) as address:
        page = open_page(address, width, "dark" if width == 390 else "light")

        def look(name: str) -> None:
            page.screenshot(path=tmp_path / f"{width}_{name}.png", full_page=True)

        content = draws(page)
        look("draw")
        keeps(page, content)
        goes_ways(page)
        look("explore")
        edits(page, content, look)
        compares(page)
        look("compare")
        watches(page)
        look("training")
        go_to(page, "Gallery")
        look("gallery")


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_a_visit_of_a_gan_with_styles(open_page: Callable[..., Any], width: int, tmp_path: pathlib.Path) -> None:
    """Mixes styles in a square, moves along a direction by keyboard, and goes back to both from the gallery."""
    from playwright.sync_api import expect

    places = (Made("denoiser", DENOISER, denoiser_nets()), Made("styles", *styled()))
    site = play_site(Playground(places, Gallery(tmp_path / "gallery")), Visitors(b"p" * 32), warms=False)
    with served(site) as address:
        page = open_page(address, width, "light" if width == 390 else "dark")
        page.get_by_role("link", name="styles").click()
        page.wait_for_url("**run=1")
        go_to(page, "Explore")
        page.get_by_label("keep in the gallery").check()
        page.get_by_label("mix styles").check()
        page.get_by_role("button", name="draw").click()
        done(page, "#out", 16)
        expect(page.locator("#out figcaption").nth(6)).to_contain_text("seed 1 with 3")
        tops = [page.locator("#out figure").nth(i).bounding_box()["y"] for i in (0, 3, 4)]
        assert tops[0] == tops[1] < tops[2]
        page.screenshot(path=tmp_path / f"{width}_mix.png", full_page=True)
        page.get_by_label("along directions").check()
        page.locator("[name=n]").fill("2")
        page.locator(".strength").first.focus()
        page.keyboard.press("End")
        done(page, "#out", 2)
        page.screenshot(path=tmp_path / f"{width}_walk.png", full_page=True)
        go_to(page, "Gallery")
        expect(page.locator("figure")).to_have_count(18)
        page.get_by_role("link", name="Draw").click()
        page.goto(page.url.replace("/?", "/gallery?").replace("run=1", "run=0"))
        page.get_by_role("link", name="use").first.click()  # of a walk of the other run
        page.wait_for_url("**/explore?run=1&use=*")
        expect(page.get_by_label("along directions")).to_be_checked()
        expect(page.locator(".strength").first).to_have_value("5")
