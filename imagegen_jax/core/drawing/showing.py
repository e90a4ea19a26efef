"""How a run shows itself: in a line or two of text, as a small card in a notebook, as a picture of samples."""

from __future__ import annotations

import base64
import html
import io
import pathlib
from typing import Any, Protocol

import numpy as np

from imagegen_jax.core.drawing.draw import class_rows, panels
from imagegen_jax.core.drawing.grid import grid, magnified
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.provenance.embedded import read_said, saved_with
from imagegen_jax.core.reporting.curves import Curves
from imagegen_jax.core.reporting.summary import count
from imagegen_jax.core.state import State

_METRICS, _NAME = 4, 60  # that a run names, and characters of each name
_WIDTH = 320  # pixels of the picture in a notebook at most


class Shown(Protocol):
    """A run as it is shown; `core.run.Run` is one."""

    @property
    def experiment(self) -> Experiment: ...

    @property
    def state(self) -> State: ...

    @property
    def workdir(self) -> pathlib.Path: ...

    @property
    def step(self) -> int: ...

    @property
    def metrics(self) -> Curves: ...

    def sample(self, n: int | None = None, **conditions: Any) -> np.ndarray: ...


def facts_of(run: Shown) -> dict[str, str]:
    """Returns what a run is at a glance: its experiment, how far it is, its size, its last losses and its folder."""
    experiment = run.experiment
    curves = run.metrics
    names = [name for name in curves if name.endswith("/loss")] + [n for n in curves if n.startswith("evaluation/")]
    sizes = [f"{name[:_NAME]} {count(params):,}" for name, params in run.state.params.items()]
    return {
        "experiment": f"{experiment.name} ({type(experiment.model).__name__} on {type(experiment.data).__name__})"[
            :200
        ],
        "step": f"{run.step:,} of {experiment.steps:,}",
        "parameters": ", ".join(sizes[:_METRICS]),
        "last": ", ".join(f"{name[:_NAME]} {_last_known(curves, name):.4g}" for name in names[:_METRICS]),
        "folder": str(run.workdir)[-300:],
    }


def _last_known(curves: Curves, name: str) -> float:
    known = curves[name].values[np.isfinite(curves[name].values)]
    return float(known[-1]) if len(known) else float("nan")


def as_text(run: Shown) -> str:
    """Writes a run's facts as text of less than 2 kB."""
    facts = facts_of(run)
    lines = [f"  {name:10}  {fact}" for name, fact in facts.items() if fact and name != "experiment"]
    return "\n".join([f"Run of {facts['experiment']}", *lines])


def as_html(run: Shown) -> str:
    """Writes a run's facts beside the newest picture of its samples, for notebooks."""
    facts = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>{html.escape(fact)}</td>"
        for name, fact in facts_of(run).items()
        if fact
    )
    return f"<div style='display:flex;gap:1em;align-items:start'>{_picture(run.workdir)}<table>{facts}</table></div>"


def _picture(folder: pathlib.Path) -> str:
    """Makes an image element of the newest grid of a run, made small; nothing where there is none that can be read."""
    from PIL import Image

    newest = max(folder.glob("samples/*.png"), default=None)
    if newest is None:
        return ""
    try:
        with Image.open(newest) as image:
            image.load()
            image.thumbnail((_WIDTH, _WIDTH), Image.Resampling.BOX)
            file = io.BytesIO()
            image.save(file, "PNG", **saved_with("PNG", read_said(newest).origin))
    except (OSError, ValueError, SyntaxError):
        return ""
    return f"<img alt='samples' src='data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}'>"


def picture_of_samples(run: Shown, n: int, conditions: dict[str, Any]) -> Any:
    """Draws `n` images as one picture, a PIL image; of each class as many where no labels are given."""
    from PIL import Image

    columns = max(1, round(n**0.5))
    texts = {"prompts", "text", "labels"} & set(conditions)
    if run.experiment.num_classes and not texts:
        labels, columns = class_rows(run.experiment.num_classes, n)
        conditions = {**conditions, "labels": labels}
        n = n if labels is None else len(labels)
    images = run.sample(None if "prompts" in conditions else n, **conditions)
    picture = magnified(grid(panels(run.experiment.model, images, {}), columns), images.shape[1])
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
