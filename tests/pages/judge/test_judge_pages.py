"""The pages of a study: what a browser is told before the end, and people who answer in it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
from browsing import WIDTHS, served
from starlette.testclient import TestClient

from imagegen_jax.pages.judge.judging import Judging
from imagegen_jax.pages.judge.result import result_of
from imagegen_jax.pages.judge.routes import judge_site
from imagegen_jax.pages.judge.trials import chosen_a
from imagegen_jax.pages.serving.visitors import Visitors

SIGNS = ("secret", "step 7", "digits", "tabby", "poodle", "study", "imagegen_jax")  # of the sets, of places


def client_of(judging: Judging) -> TestClient:
    """A person at the pages."""
    visitors = Visitors(judging.secret)
    client = TestClient(judge_site(judging, visitors).app, base_url="http://127.0.0.1")
    assert client.get(f"/?key={visitors.key}").status_code == 200
    client.headers["x-token"] = visitors.token(visitors.named(client.cookies[visitors.cookie_name]) or "")
    return client


def test_no_answer_of_the_server_has_a_sign_of_the_sets_before_the_end(judging: Judging) -> None:
    client, seen = client_of(judging), []
    for _ in range(judging.study.settings.trials):
        seen += [client.get("/"), client.get("/pairs"), client.get("/end")]
        shown = client.post("/next", json={})
        seen += [shown, *(client.get(f"/pictures/{name}") for name in shown.json()["pictures"])]
        seen.append(client.post("/vote", json={"trial": shown.json()["trial"], "side": 0, "seconds": 1}))
    for answer in seen:
        assert answer.status_code == 200
        text = answer.text if "image" not in answer.headers["content-type"] else answer.content.decode("latin1")
        told = text + str(answer.headers) + str(answer.url)
        assert not [sign for sign in SIGNS if sign in told]
    end = client.get("/end").text
    assert "runs/secret at step 7" in end and "digits" in end


def test_bad_answers_and_other_pictures_are_refused(judging: Judging) -> None:
    client = client_of(judging)
    assert client.post("/vote", json={"trial": 0, "side": 5, "seconds": 1}).status_code == 400
    assert client.get("/pictures/0123456789abcdef01234567").status_code == 404
    assert client.post("/vote", json={"trial": 0, "side": 0, "seconds": 1}, headers={"x-token": ""}).status_code == 403
    assert judging.votes.all == []


def test_the_end_is_shown_to_nobody_who_has_not_answered_all(judging: Judging) -> None:
    client = client_of(judging)
    assert client.get("/end", follow_redirects=False).status_code == 303


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_sixty_votes_in_a_browser(open_page: Callable[..., Any], judging: Judging, width: int) -> None:
    from playwright.sync_api import expect

    settings = dataclasses.replace(judging.study.settings, answers=54)  # and 6 catch trials
    judging = dataclasses.replace(judging, study=dataclasses.replace(judging.study, settings=settings))
    with served(judge_site(judging, Visitors(judging.secret))) as address:
        page = open_page(address, width, "dark" if width == 390 else "light")
        page.locator("#begin").focus()
        page.keyboard.press("Enter")
        for number in range(60):
            expect(page.locator("#say")).to_have_text(f"{number + 1} of 60")
            expect(page.locator("#left")).to_be_enabled()
            (voter,) = {vote.voter for vote in judging.votes.all} or {None}
            side = _side(judging, voter, number)
            if number == 20:  # a reload loses nothing
                page.reload()
                expect(page.locator("#say")).to_have_text("21 of 60")
                expect(page.locator("#left")).to_be_enabled()
            if number % 2:
                page.keyboard.press(("ArrowLeft", "ArrowRight")[side])
            else:
                page.locator(("#left", "#right")[side]).click()
        expect(page.locator("#result")).to_contain_text("everyone")
        found = result_of(judging.study, judging.votes.all)
    assert found is not None and found.overall.answers == 54 and found.caught == (6, 6)
    expected = [v.pair % 3 == 0 for v in judging.votes.all if not v.catch and v.trial > 0]
    assert [v.chose_a for v in judging.votes.all if not v.catch and v.trial > 0] == expected


def _side(judging: Judging, voter: str | None, number: int) -> int:
    """The side of who takes every third pair's generated picture for real; of the first trial, when nobody is known
    yet, the left one.
    """
    if voter is None:
        return 0
    trial = judging.next_of(voter)
    assert trial is not None and trial.number == number
    wrong = False if trial.catch else trial.pair % 3 == 0
    return next(side for side in (0, 1) if chosen_a(trial, side) == wrong)


@pytest.mark.slow
def test_pictures_are_large_enough_and_go_after_their_time(open_page: Callable[..., Any], judging: Judging) -> None:
    from playwright.sync_api import expect

    settings = dataclasses.replace(judging.study.settings, milliseconds=150)
    judging = dataclasses.replace(judging, study=dataclasses.replace(judging.study, settings=settings))
    with served(judge_site(judging, Visitors(judging.secret))) as address:
        page = open_page(address)
        page.locator("#begin").click()
        expect(page.locator("#say")).to_have_text("1 of 22")
        expect(page.locator("#left-picture")).to_have_class(re.compile("gone"))
        box = page.locator("#left-picture").bounding_box()
        assert (box["width"], box["height"]) == (256, 256)
        page.keyboard.press("ArrowRight")
        expect(page.locator("#say")).to_have_text("2 of 22")
