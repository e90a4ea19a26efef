"""The pages of `imagegen judge`: a start, the pairs, and at a person's end the result."""

from __future__ import annotations

import dataclasses
import pathlib

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from imagegen_jax.pages.judge.judging import Judging
from imagegen_jax.pages.judge.result import WORDS, notes, result_of, said
from imagegen_jax.pages.judge.study import ASKED
from imagegen_jax.pages.serving.site import Site, read_json
from imagegen_jax.pages.serving.visitors import Visitors

HERE = pathlib.Path(__file__).parent


def judge_site(judging: Judging, visitors: Visitors) -> Site:
    """Makes the site on which people answer a study."""
    pages = _Pages(judging)
    routes = [
        Route("/", pages.start),
        Route("/pairs", pages.pairs),
        Route("/next", pages.next, methods=["POST"]),
        Route("/vote", pages.vote, methods=["POST"]),
        Route("/pictures/{name}", pages.picture),
        Route("/end", pages.end),
    ]
    title = ASKED[judging.study.settings.question]
    site = Site(title, routes, visitors, HERE / "templates", HERE / "static")
    pages.site = site
    return site


@dataclasses.dataclass
class _Pages:
    judging: Judging
    site: Site | None = None

    async def start(self, request: Request) -> Response:
        return self._page(request, "start.html")

    async def pairs(self, request: Request) -> Response:
        return self._page(request, "pairs.html")

    async def next(self, request: Request) -> Response:
        return JSONResponse(self.judging.shown(request.state.visitor))

    async def vote(self, request: Request) -> Response:
        given = await read_json(request)
        self.judging.answer(request.state.visitor, given.get("trial"), given.get("side"), given.get("seconds"))
        return JSONResponse(self.judging.shown(request.state.visitor))

    async def picture(self, request: Request) -> Response:
        found = self.judging.picture(request.state.visitor, request.path_params["name"])
        if found is None:
            raise HTTPException(404, "there is no such picture")
        return Response(found, media_type="image/png")

    async def end(self, request: Request) -> Response:
        """Shows the result, to whoever has answered all."""
        if self.judging.next_of(request.state.visitor) is not None:
            return RedirectResponse("/", 303)
        study, votes = self.judging.study, self.judging.votes
        own = result_of(study, votes.of(request.state.visitor))
        everyone = result_of(study, votes.all)
        assert self.site is not None
        return self.site.render(
            request, "end.html", settings=study.settings, words=WORDS[study.settings.question], said=said,
            own=own, all=everyone, notes=notes(everyone) if everyone else [],
        )  # fmt: skip

    def _page(self, request: Request, template: str) -> Response:
        voter, settings = request.state.visitor, self.judging.study.settings
        assert self.site is not None
        return self.site.render(
            request, template, trials=settings.trials, kind=settings.question,
            done=len(self.judging.votes.of(voter)), timed=settings.staircase or settings.milliseconds is not None,
        )  # fmt: skip
