"""A site: routes, templates and static files behind the guard, with jobs that are watched as server-sent events."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import pathlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from imagegen_jax.pages.serving.guard import Guard
from imagegen_jax.pages.serving.jobs import Busy, Job, Jobs
from imagegen_jax.pages.serving.visitors import Visitors

HERE = pathlib.Path(__file__).parent
ALIVE = 15.0  # seconds after which a stream says that it still is
LARGEST = 2**20  # bytes of a body, where a site does not say otherwise


@dataclasses.dataclass(frozen=True)
class Site:
    """The pages of one command: `templates` and `static` are folders of its own, beside those that all sites share.

    A template extends "page.html", and has `title`, `token` and what `render` is given. Files of `static` are served
    from /static/own/, those that are shared from /static/.
    """

    title: str
    routes: Sequence[BaseRoute]
    visitors: Visitors
    templates: pathlib.Path
    static: pathlib.Path
    jobs: Jobs = dataclasses.field(default_factory=Jobs)
    largest: int = LARGEST

    @functools.cached_property
    def app(self) -> Starlette:
        """Makes the application that a server serves."""
        routes = [
            *self.routes,
            Route("/jobs/{job}", self._watch),
            Route("/jobs/{job}/stop", self._stop, methods=["POST"]),
            Route("/favicon.ico", _favicon),
            Mount("/static/own", StaticFiles(directory=self.static)),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]
        guard = Middleware(Guard, visitors=self.visitors, largest=self.largest)
        handlers: Any = {ValueError: _told, Busy: _told, HTTPException: _told}
        return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)

    def render(self, request: Request, template: str, **values: Any) -> HTMLResponse:
        """Renders a template for a visitor; all values are escaped in it."""
        page = self._environment.get_template(template)
        return HTMLResponse(page.render(title=self.title, token=request.state.token, **values))

    @functools.cached_property
    def _environment(self) -> jinja2.Environment:
        folders = jinja2.FileSystemLoader([self.templates, HERE / "templates"])
        return jinja2.Environment(loader=folders, autoescape=True, undefined=jinja2.StrictUndefined)

    def job_of(self, request: Request) -> Job:
        """Returns the visitor's job that a path names; answers 404 where there is none."""
        found = self.jobs.of(request.state.visitor, request.path_params["job"])
        if found is None:
            raise HTTPException(404, "there is no such job")
        return found

    async def _watch(self, request: Request) -> Response:
        job = self.job_of(request)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events_of(job), media_type="text/event-stream", headers=headers)

    async def _stop(self, request: Request) -> Response:
        self.jobs.stop(self.job_of(request))
        return JSONResponse({})


async def events_of(job: Job) -> AsyncIterator[str]:
    """Yields what a job tells, as server-sent events, to its end."""
    serial = -1
    with job.listening() as changed:
        while True:
            changed.clear()
            for event in job.since(serial):
                serial = event.serial
                yield f"id: {serial}\nevent: {event.name}\ndata: {json.dumps(event.data)}\n\n"
            if job.ended:
                if not job.since(serial):
                    return
                continue
            try:
                await asyncio.wait_for(changed.wait(), ALIVE)
            except TimeoutError:
                yield ": still here\n\n"


async def read_json(request: Request) -> dict[str, Any]:
    """Reads a request's JSON object. Raises ValueError for anything else."""
    try:
        found = json.loads(await request.body())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("a JSON object was wanted")
    return found


def file_below(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the file of a name below a folder; answers 404 for none, and for one outside, also through a link."""
    root = folder.resolve()
    try:
        found = (root / name).resolve()
        inside = found.is_relative_to(root) and found.is_file()
    except (OSError, ValueError):  # names that no file can have
        inside = False
    if not inside:
        raise HTTPException(404, "there is no such file")
    return found


async def _told(request: Request, error: Exception) -> Response:
    """Answers with what was wrong, as JSON that the page shows."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    return JSONResponse({"error": str(error)}, 429 if isinstance(error, Busy) else 400)


async def _favicon(request: Request) -> Response:
    return FileResponse(HERE / "static" / "favicon.svg", media_type="image/svg+xml")
