"""What a visitor asks for: read from what a page sends, each value checked and named where it is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from imagegen_jax.core.arrays.image import is_image
from imagegen_jax.core.arrays.texts import check_prompts, conditions_of
from imagegen_jax.core.capabilities import FromLatents, StyleBased, reads_text
from imagegen_jax.core.config.given import SEEDS, check_integer, check_labels, check_number, check_seed
from imagegen_jax.core.model import ChecksConditions, condition_rows, num_classes, optional_conditions
from imagegen_jax.pages.play.places import Opened, Place
from imagegen_jax.pages.play.stepping import steps_of

MOST, MOST_STEPS, LONGEST = 16, 256, 500  # images at once, steps, letters of a prompt
GUIDANCE = 20.0


@dataclasses.dataclass(frozen=True)
class Abilities:
    """What can be asked of a model, so that a page shows that alone."""

    classes: int = 0
    steps: int | None = None  # how many it takes by itself; None: they cannot be chosen
    guidance: bool = False
    truncation: bool = False
    prompts: bool = False
    latents: bool = False
    layers: int = 0  # of styles


def abilities_of(model: Any) -> Abilities:
    """Finds what can be asked of a model. Raises ValueError for one that makes its images of other images."""
    rows = condition_rows(model)
    if any(is_image(row.shape, row.dtype) for row in rows.values()):
        raise ValueError(
            f"a {type(model).__name__} makes its images of others: use `imagegen sample RUN --source FILE`, or a run "
            "of another model here"
        )
    optional, latents = optional_conditions(model), isinstance(model, FromLatents)
    return Abilities(
        classes=num_classes(model),
        steps=steps_of(model),
        guidance="guidance" in optional and _guides(model),
        truncation="truncation" in optional,
        prompts=reads_text(model) is not None,
        latents=latents,
        layers=model.layers if isinstance(model, StyleBased) else 0,
    )


def _guides(model: Any) -> bool:
    """Tells whether the model was trained to do without its conditions, as guidance asks."""
    given: dict[str, Any] = {"guidance": np.float32(2)}
    if isinstance(model, ChecksConditions):
        try:
            model.check_conditions(given)
        except ValueError:
            return False
    return True


@dataclasses.dataclass(frozen=True)
class DrawSettings:
    """What is drawn: image i of `n` is that of the seed `seed` + i, whatever is drawn beside it."""

    n: int = 1
    seed: int = 0
    label: int | None = None
    steps: int | None = None
    guidance: float | None = None
    truncation: float | None = None
    prompt: str = ""
    negative: str = ""

    @property
    def seeds(self) -> np.ndarray:
        """The seed of each image, uint32 [n]."""
        return np.asarray([(self.seed + i) % SEEDS for i in range(self.n)], np.uint32)

    def of(self, i: int) -> dict[str, Any]:
        """Returns the settings of image i alone, without those that say nothing."""
        fields = {**dataclasses.asdict(self), "n": 1, "seed": int(self.seeds[i])}
        return {name: value for name, value in fields.items() if value not in (None, "")}

    def conditions(self, opened: Opened, rows: int) -> dict[str, Any]:
        """Returns the conditions of `rows` images alike."""
        found: dict[str, Any] = {}
        if self.label is not None:
            found["label"] = np.full(rows, self.label, np.int32)
        for name in ("guidance", "truncation"):
            if (value := getattr(self, name)) is not None:
                found[name] = np.float32(value)
        if opened.tokenizer is not None:
            negative = [self.negative] if self.negative else []
            prompts = check_prompts(opened.model, [self.prompt], negative, rows)
            found |= conditions_of(opened.tokenizer, *prompts)
        return found


class Reads(dict[str, Any]):
    """What a page sends; `read` is what was got of it by name, the default where the page left it out."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.read: dict[str, Any] = {}

    def get(self, name: str, default: Any = None, /) -> Any:
        """Returns a value, and notes it."""
        self.read[name] = super().get(name, default)
        return self.read[name]


def read_settings(given: Mapping[str, Any], place: Place) -> DrawSettings:
    """Reads what a page sends for a model. Raises ValueError, naming it, for what is wrong or missing."""
    can = abilities_of(place.model)
    n, seed = check_integer(given.get("n", 1), "n", 1, MOST), check_seed(given.get("seed", 0))
    label = int(check_labels(given.get("label", 0), can.classes, place.class_names, "label")) if can.classes else None
    steps = check_integer(given.get("steps", can.steps), "steps", 1, MOST_STEPS) if can.steps else None
    guidance = check_number(given.get("guidance", 1.0), "guidance", -GUIDANCE, GUIDANCE) if can.guidance else None
    truncation = check_number(given.get("truncation", 1.0), "truncation", 0, 1) if can.truncation else None
    prompt, negative = (_text(given, name) if can.prompts else "" for name in ("prompt", "negative"))
    if can.prompts and not prompt:
        raise ValueError("prompt: say in words what is to be seen")
    return DrawSettings(n, seed, label, steps, guidance, truncation, prompt, negative if guidance is not None else "")


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError(f"{name}: a text of at most {LONGEST} letters")
    return value.strip()
