"""The pages of the playground and what they send: routes around `Playground`."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from imagegen_jax.pages.play import edits, training
from imagegen_jax.pages.play.pictures import url_of
from imagegen_jax.pages.play.places import Place
from imagegen_jax.pages.play.playground import Playground
from imagegen_jax.pages.play.settings import GUIDANCE, MOST, MOST_STEPS
from imagegen_jax.pages.serving.jobs import Jobs, Work
from imagegen_jax.pages.serving.site import Site, file_below, read_json
from imagegen_jax.pages.serving.visitors import Visitors

HERE = pathlib.Path(__file__).parent
LARGEST = 20 * 2**20  # bytes of a photo
PAGES = {"/": "draw", "/explore": "explore", "/edit": "edit", "/compare": "compare", "/training": "training"}
Asked = Callable[[str, Mapping[str, Any]], Work]


@dataclasses.dataclass(frozen=True, eq=False)
class Routes:
    """Answers what the pages ask; on threads what reads files or decodes, so that streams of other requests go on."""

    ground: Playground
    jobs: Jobs
    render: Callable[..., Response]

    def all(self) -> list[BaseRoute]:
        """Returns the routes."""
        ground = self.ground
        works = {"/draw": ground.draw, "/explore": ground.explore, "/edit": ground.edit, "/compare": ground.compare}
        return [
            *(Route(path, self._page(name)) for path, name in PAGES.items()),
            *(Route(path, self._work(asked), methods=["POST"]) for path, asked in works.items()),
            Route("/gallery", self._gallery),
            Route("/gallery", self._take, methods=["POST"]),
            Route("/gallery/{name}", self._picture),
            Route("/gallery/{name}/settings", self._settings),
            Route("/gallery/{name}/remove", self._remove, methods=["POST"]),
            Route("/upload", self._upload, methods=["POST"]),
            Route("/training/{run}", self._state),
            Route("/training/{run}/grids/{name:path}", self._grid),
        ]

    def _page(self, name: str) -> Callable[..., Any]:
        def page(request: Request) -> Response:
            return self._rendered(request, name)

        return page

    def _rendered(self, request: Request, name: str, **values: Any) -> Response:
        number = _number(request.query_params.get("run", "0"), self.ground.places)
        place, can = self.ground.places[number], self.ground.abilities[number]
        return self.render(
            request, f"{name}.html", page=name, number=number, place=place, can=can, places=self.ground.places,
            edits=edits.edits_of(place.model), factors=edits.factors_of(place.model),
            most=MOST, most_steps=MOST_STEPS, most_guidance=GUIDANCE,
            height=place.model.image_shape[0], **values,
        )  # fmt: skip

    def _work(self, asked: Asked) -> Callable[..., Any]:
        async def work(request: Request) -> Response:
            visitor = request.state.visitor
            made = await run_in_threadpool(asked, visitor, await read_json(request))
            return JSONResponse({"job": self.jobs.add(visitor, made).identifier})

        return work

    def _gallery(self, request: Request) -> Response:
        visitor, gallery = request.state.visitor, self.ground.gallery
        pictures = [(name, gallery.settings(visitor, name)) for name in gallery.names(visitor)]
        runs = {place.name: number for number, place in enumerate(self.ground.places)}
        return self._rendered(request, "gallery", pictures=pictures, runs=runs)

    async def _take(self, request: Request) -> Response:
        content = await request.body()
        name, settings = await run_in_threadpool(self.ground.gallery.take, request.state.visitor, content)
        return JSONResponse({"name": name, "settings": settings})

    def _picture(self, request: Request) -> Response:
        path = self.ground.gallery.path(request.state.visitor, request.path_params["name"])
        if path is None:
            raise HTTPException(404, "there is no such picture")
        return FileResponse(path, media_type="image/png", filename=path.name, content_disposition_type="inline")

    def _settings(self, request: Request) -> Response:
        return JSONResponse(self.ground.gallery.settings(request.state.visitor, request.path_params["name"]))

    def _remove(self, request: Request) -> Response:
        self.ground.gallery.remove(request.state.visitor, request.path_params["name"])
        return JSONResponse({})

    async def _upload(self, request: Request) -> Response:
        place = self.ground.places[_number(request.query_params.get("run", "0"), self.ground.places)]
        content = await request.body()
        name = await run_in_threadpool(self.ground.uploads.add, request.state.visitor, content)
        shown = await run_in_threadpool(edits.shown, place.model, content)
        return JSONResponse({"upload": name, "url": url_of(shown)})

    def _state(self, request: Request) -> Response:
        return JSONResponse(training.state_of(self._run(request)))

    def _grid(self, request: Request) -> Response:
        folder = self._run(request).folder
        if folder is None:
            raise HTTPException(404, "there is no such file")
        path = file_below(folder / "samples", request.path_params["name"])
        return FileResponse(path, media_type="image/png")

    def _run(self, request: Request) -> Place:
        return self.ground.places[_number(request.path_params["run"], self.ground.places)]


def _number(text: str, places: Any) -> int:
    """Reads the number of a place in an address; answers 404 where there is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text) < len(places)):
        raise HTTPException(404, "there is no such run")
    return int(text)


def play_site(ground: Playground, visitors: Visitors, title: str = "imagegen play", warms: bool = True) -> Site:
    """Makes the site of a playground; with `warms` the first model's programs are made ready at once."""
    jobs = Jobs()

    def render(*values: Any, **named: Any) -> Response:
        return site.render(*values, **named)

    routes = Routes(ground, jobs, render).all()
    site = Site(title, routes, visitors, HERE / "templates", HERE / "static", jobs, LARGEST)
    if warms:
        jobs.add("", ground.warm())
    return site
