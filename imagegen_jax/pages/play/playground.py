"""The playground: what its pages ask for, each as a job that draws, shows how far it is, and keeps its pictures."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.pages.play.drawing import Stepwise, drawn, warm
from imagegen_jax.pages.play.edits import Uploads, edited, edits_of, said
from imagegen_jax.pages.play.exploring import WAYS
from imagegen_jax.pages.play.gallery import Gallery
from imagegen_jax.pages.play.pictures import sheet_of, url_of
from imagegen_jax.pages.play.places import Opened, Place, origin_at, place_at
from imagegen_jax.pages.play.settings import Abilities, DrawSettings, Reads, abilities_of, read_settings
from imagegen_jax.pages.serving.jobs import Told, Work

OFTEN = 0.08  # seconds between two looks at unfinished images
Making = Generator[Told, None, dict[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Playground:
    """Models to play with, visitors' pictures, and the work that is asked of these."""

    places: Sequence[Place]
    gallery: Gallery
    uploads: Uploads = dataclasses.field(default_factory=Uploads)

    @functools.cached_property
    def abilities(self) -> tuple[Abilities, ...]:
        """What can be asked of each model."""
        return tuple(abilities_of(place.model) for place in self.places)

    def draw(self, visitor: str, given: Mapping[str, Any]) -> Work:
        """Returns the work of drawing what a page asks for."""
        place, step, settings = self._asked(given)
        return functools.partial(self._made, visitor, place, step, settings, "draw", drawn)

    def explore(self, visitor: str, given: Mapping[str, Any]) -> Work:
        """Returns the work of going a way through what a model can make."""
        place, step, settings = self._asked(given)
        reads, way = Reads(given), given.get("way")
        if not isinstance(way, str) or way not in WAYS:
            raise ValueError(f"way {way!r}: one of {', '.join(WAYS)}")
        # frames and what sliders show come by the dozen: they are shown, and kept where the page asks for it
        keeps = given.get("keep") is True

        def make(opened: Opened, settings: DrawSettings) -> Stepwise:
            return WAYS[way](opened, settings, reads)

        return functools.partial(self._made, visitor, place, step, settings, way, make, keeps, also=lambda: reads.read)

    def edit(self, visitor: str, given: Mapping[str, Any]) -> Work:
        """Returns the work of editing a visitor's picture."""
        place, step, settings = self._asked(given)
        reads, content, name = Reads(given), self.uploads.of(visitor, given.get("upload")), given.get("edit")
        if name not in edits_of(place.model):
            raise ValueError(f"edit {name!r}: this model can {', '.join(edits_of(place.model)) or 'edit nothing'}")

        def make(opened: Opened, settings: DrawSettings) -> Stepwise:
            return edited(opened, settings, content, reads)

        also = functools.partial(said, place.model, content, reads.read)
        return functools.partial(self._made, visitor, place, step, settings, str(name), make, also=also)

    def compare(self, visitor: str, given: Mapping[str, Any]) -> Work:
        """Returns the work of drawing the same seeds by two models, "run" at "step" and "other" at "other_step"."""
        one = self._asked(given)
        other = self._asked({**given, "run": given.get("other"), "step": given.get("other_step")})

        def work() -> Making:
            sides = []
            for place, step, settings in (one, other):
                sides.append((yield from self._made(visitor, place, step, settings, "draw", drawn)))
            return {"sides": sides}

        return work

    def warm(self, number: int = 0) -> Work:
        """Returns the work of having a model's programs ready before anyone asks."""

        def work() -> Making:
            yield "progress", {}
            place, can = self.places[number], self.abilities[number]
            if place.steps and not can.prompts:
                warm(place.open(), read_settings({"n": 8}, place))
            return {}

        return work

    def _asked(self, given: Mapping[str, Any]) -> tuple[Place, int | None, DrawSettings]:
        place = place_at(self.places, given.get("run", 0))
        step = given.get("step")
        if step is not None and step not in place.steps:
            raise ValueError(f"step {step!r}: {place.name} has checkpoints of {', '.join(map(str, place.steps))}")
        return place, step, read_settings(given, place)

    def _made(
        self,
        visitor: str,
        place: Place,
        step: int | None,
        settings: DrawSettings,
        kind: str,
        make: Callable[[Opened, DrawSettings], Stepwise],
        keeps: bool = True,
        also: Callable[[], Mapping[str, Any]] = dict,
    ) -> Making:
        """Draws, tells how far it is and what can be seen, keeps the pictures, and returns what a page shows.

        Pictures say their settings, and what `also` returns in the end: what a way or an edit read beside them.
        """
        yield "opening", {"run": place.name}
        opened = place.open(step)
        said = origin_at(place, opened, kind)
        start = looked = time.perf_counter()
        drawing = make(opened, settings)
        while True:
            try:
                progress = next(drawing)
            except StopIteration as end:
                images: np.ndarray = end.value
                break
            yield "progress", {"step": progress.step, "of": progress.of}
            if progress.look is not None and progress.step < progress.of and time.perf_counter() - looked >= OFTEN:
                yield "seen", {"sheet": sheet_of(progress.look(), said)}
                looked = time.perf_counter()
        made = {"kind": kind, "run": place.name, "step": opened.step, **also()}
        pictures = self._kept(visitor if keeps else None, images, settings, made, said)
        seconds = round(time.perf_counter() - start, 3)
        return {"run": place.name, "at": opened.step, "seconds": seconds, "pictures": pictures}

    def _kept(
        self,
        visitor: str | None,
        images: np.ndarray,
        settings: DrawSettings,
        made: Mapping[str, Any],
        origin: Origin,
    ) -> list[dict[str, Any]]:
        """Keeps pictures in the gallery of a visitor, None: in none, and returns what a page shows of each."""
        pictures = []
        for i, image in enumerate(images):
            alone = made["kind"] in ("draw", "walk")
            own = settings.of(i) if alone else settings.of(0) | {"n": settings.n, "image": i}
            own = {**made, **_steps_apart(own)}
            texts, together = filter(None, (own.get("prompt"),)), {"n": settings.n, "seed": settings.seed}
            said = dataclasses.replace(origin.of_row(i, tuple(texts)), seed=own["seed"], request=together)
            name = "" if visitor is None else self.gallery.add(visitor, image, own, said)
            pictures.append({"name": name, "url": url_of(image, said), "seed": own["seed"], "settings": own})
        return pictures


def _steps_apart(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with the solver's steps under another name than the checkpoint's step."""
    return {("solver_steps" if name == "steps" else name): value for name, value in settings.items()}
