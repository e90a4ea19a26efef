"""Dashboards that follow a run: Weights & Biases, and trackio, which keeps W&B's calls but stays on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from imagegen_jax.core.reporting.trackers.tracker import Followed, check_package, kept_id


@dataclasses.dataclass(frozen=True)
class WandB:
    """Follows a run on Weights & Biases, or offline with WANDB_MODE=offline; a resumed run keeps its id."""

    project: str = "imagegen_jax"
    entity: str | None = None  # a team; None: the user's own

    def check(self) -> None:
        """Raises ValueError where wandb is not installed, or nobody has logged in."""
        check_package("wandb", "wandb")
        if os.environ.get("WANDB_MODE") in ("offline", "disabled") or os.environ.get("WANDB_API_KEY"):
            return
        if not importlib.import_module("wandb").api.api_key:
            raise ValueError("wandb: nobody is logged in here: `wandb login`, or WANDB_MODE=offline and sync later")

    def open(self, run: Followed) -> Dashboard:
        """Begins or goes on with the run of the id that its folder keeps."""
        wandb = importlib.import_module("wandb")
        found = wandb.init(
            project=self.project, entity=self.entity, dir=str(run.folder), config=dict(run.config),
            name=str(run.config.get("name", run.folder.name)), resume="allow",
            id=kept_id(run.folder, "wandb", lambda: secrets.token_hex(4)), settings=wandb.Settings(console="off"),
        )  # fmt: skip
        found.define_metric("step")
        found.define_metric("*", step_metric="step")  # W&B's own count cannot go back, and a resumed run does
        return Dashboard(lambda step, values: found.log({**values, "step": step}), wandb.Image, found.finish)


@dataclasses.dataclass(frozen=True)
class Trackio:
    """Follows a run in trackio, whose pages `trackio show` serves; a resumed run keeps its name."""

    project: str = "imagegen_jax"

    def check(self) -> None:
        """Raises ValueError where trackio is not installed."""
        check_package("trackio", "trackio")

    def open(self, run: Followed) -> Dashboard:
        """Begins or goes on with the run of the name that its folder keeps."""
        trackio = importlib.import_module("trackio")
        name = kept_id(run.folder, "trackio", lambda: f"{run.config.get('name', 'run')}-{secrets.token_hex(2)}")
        with _aside():
            found = trackio.init(project=self.project, name=name, config=dict(run.config), resume="allow", embed=False)
        return Dashboard(lambda step, values: found.log(values, step=step), trackio.Image, found.finish)


def _aside() -> contextlib.AbstractContextManager[Any]:
    """Has what is printed go to standard error: what a command prints is for others to read."""
    return contextlib.redirect_stdout(sys.stderr)


class Dashboard:
    """An open run of either."""

    def __init__(
        self, log: Callable[[int, dict[str, Any]], None], picture: Callable[[np.ndarray], Any], finish: Any
    ) -> None:
        """Takes how the run is told values of a step, the class that it wants pictures as, and how it ends."""
        self._log, self._picture, self._finish = log, picture, finish

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hands on metrics with their step."""
        self._log(step, dict(metrics))

    def image(self, step: int, picture: np.ndarray) -> None:
        """Hands on a picture [H W c] under the name "samples"; one channel is shown as three equal ones."""
        grey = picture.shape[-1] == 1
        self._log(step, {"samples": self._picture(picture.repeat(3, axis=-1) if grey else picture)})

    def close(self) -> None:
        """Waits until all is handed on."""
        with _aside():
            self._finish()
