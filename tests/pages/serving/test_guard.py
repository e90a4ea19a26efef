"""The guard: whom it lets in, and whom it refuses, with which answer."""

from __future__ import annotations

import pathlib
import re
import stat
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from imagegen_jax.pages.serving import guard
from imagegen_jax.pages.serving.site import Site
from imagegen_jax.pages.serving.visitors import Visitors, kept_secret


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "localhost:1", "[::1]:5"])
def test_names_of_this_machine_are_let_in(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1", "127.0.0.1/static/?", "localhost/x",
        "a@127.0.0.1", "127.0.0.1?", "127.0.0.1#", "127.0.0.1:1:2", "127.0.0.1:x", "127.0.0.1:",
    ],
)  # fmt: skip
def test_another_host_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


def test_what_is_open_is_told_from_the_path_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the Host header would pass: an address made of both may begin with /static/ at any path."""
    monkeypatch.setattr(guard, "HOST", re.compile(".*"))
    stranger = TestClient(site.app, base_url="http://127.0.0.1")
    answer = stranger.get("/files/a.txt", headers={"host": "127.0.0.1/static/?", "origin": "http://127.0.0.1/static/?"})
    assert answer.status_code == 403


def test_another_origin_is_refused(client: TestClient) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1"):
        assert client.post("/count", json={"to": 1}, headers={"origin": origin}).status_code == 403
    assert client.post("/count", json={"to": 1}, headers={"origin": "http://127.0.0.1"}).status_code == 200


def test_other_sites_may_link_here_and_no_more(client: TestClient) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/", headers={**link, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/", headers={"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}).status_code == 403
    assert client.post("/count", json={"to": 1}, headers=link).status_code == 403


def test_what_changes_something_needs_the_visitors_own_token(client: TestClient, site: Site) -> None:
    for token in ("wrong", site.visitors.token("0" * 16)):
        assert client.post("/count", json={"to": 1}, headers={"x-token": token}).status_code == 403
    del client.headers["x-token"]
    assert client.post("/count", json={"to": 1}).status_code == 403


def test_without_the_key_nobody_gets_in(site: Site) -> None:
    stranger = TestClient(site.app, base_url="http://127.0.0.1")
    for address in ("/", "/?key=", "/?key=wrong", "/files/a.txt"):
        assert stranger.get(address).status_code == 403
    forged = TestClient(
        site.app, base_url="http://127.0.0.1", cookies={site.visitors.cookie_name: f"{'0' * 16}.{'0' * 32}"}
    )
    assert forged.get("/").status_code == 403
    assert stranger.get("/static/site.css").status_code == stranger.get("/favicon.ico").status_code == 200


def test_a_visitor_stays_the_same_and_the_key_leaves_the_address(client: TestClient, site: Site) -> None:
    before = client.cookies[site.visitors.cookie_name]
    answer = client.get(f"/?key={site.visitors.key}")
    assert answer.url == "http://127.0.0.1/" and client.cookies[site.visitors.cookie_name] == before
    cookie = answer.history[0].headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    away = client.get(f"http://127.0.0.1//evil.example/?key={site.visitors.key}", follow_redirects=False)
    assert away.headers["location"] == "/evil.example/"  # on this server


def test_large_bodies_are_refused_whether_they_say_their_length_or_not(client: TestClient) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    assert client.post("/count", content=b" " * 1001).status_code == 413
    said = client.post("/count", content=b"", headers={"content-length": "1001"})  # refused before a byte has come
    assert said.status_code == 413
    assert client.post("/count", content=parts()).status_code == 413
    assert client.post("/count", content=b'{"to": 1}'.ljust(1000)).status_code == 200


def test_every_answer_keeps_other_sites_out(client: TestClient) -> None:
    for answer in (
        client.get("/"),
        client.get("/static/site.css"),
        client.get("/none"),
        client.get("/", headers={"host": "x"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_kept_secret_is_the_owners_alone_and_stays(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "new" / ".secret"
    secret = kept_secret(place)
    assert len(secret) == 32 and kept_secret(place) == secret and stat.S_IMODE(place.stat().st_mode) == 0o600
    one, other = Visitors(secret), Visitors(b"x" * 32)
    assert one.named(one.cookie()) and not one.named(other.cookie()) and one.key != other.key
    place.write_bytes(b"short")
    with pytest.raises(ValueError, match="delete it"):
        kept_secret(place)
