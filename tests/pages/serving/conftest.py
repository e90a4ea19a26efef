"""A site with one page, a job that counts, and what a client of it sends."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Generator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from imagegen_jax.pages.serving.site import Site, file_below, read_json
from imagegen_jax.pages.serving.visitors import Visitors

PAGE = """{% extends "page.html" %}
{% block head %}<script type="module" src="/static/own/count.js"></script>{% endblock %}
{% block main %}<p>{{ word }}</p>
<div class="actions"><button class="go" id="go">count</button><button id="stop" disabled>stop</button></div>
<p id="say" role="status" aria-live="polite"></p>{% endblock %}"""
SCRIPT = """import {at, say, send, watch} from "/static/site.js";
let job;
at("go").addEventListener("click", async () => {
  at("stop").disabled = false;
  ({job} = await send("/count", {to: 10000}));
  const [end] = await watch(job, {progress: data => say("at " + data.at)});
  say(end);
});
at("stop").addEventListener("click", () => send(`/jobs/${job}/stop`));
"""


@pytest.fixture
def gate() -> threading.Event:
    """What jobs that count wait for after their first number."""
    return threading.Event()


@pytest.fixture
def site(tmp_path: pathlib.Path, gate: threading.Event) -> Site:
    """A site whose page shows "<b>&" and counts; `/count` waits for `gate`, `/files/NAME` gives files of `kept`."""
    for name, content in (("home.html", PAGE), ("count.js", SCRIPT), ("kept/a.txt", "kept"), ("secret.txt", "secret")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "kept" / "link.txt").symlink_to(tmp_path / "secret.txt")

    def counting(to: int) -> Generator[tuple[str, dict[str, Any]], None, dict[str, Any]]:
        for i in range(to):
            yield "progress", {"at": i}
            gate.wait(0.05 if to > 100 else 10)
        if to == 0:
            raise ValueError("nothing to count")
        if to < 0:
            raise (RuntimeError if to == -1 else TypeError)("a secret")
        return {"counted": to}

    async def home(request: Request) -> Response:
        return made.render(request, "home.html", word="<b>&")

    async def count(request: Request) -> Response:
        to = (await read_json(request))["to"]
        return JSONResponse({"job": made.jobs.add(request.state.visitor, lambda: counting(to)).identifier})

    async def kept(request: Request) -> Response:
        return Response(file_below(tmp_path / "kept", request.path_params["name"]).read_text())

    routes = [Route("/", home), Route("/count", count, methods=["POST"]), Route("/files/{name:path}", kept)]
    made = Site("count", routes, Visitors(b"s" * 32), tmp_path, tmp_path, largest=1000)
    return made


@pytest.fixture
def client(site: Site) -> TestClient:
    """A visitor of the site, whose requests have the token."""
    found = TestClient(site.app, base_url="http://127.0.0.1")
    assert found.get(f"/?key={site.visitors.key}").status_code == 200
    name = site.visitors.named(found.cookies[site.visitors.cookie_name])
    found.headers["x-token"] = site.visitors.token(name or "")
    return found
