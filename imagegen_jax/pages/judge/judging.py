"""One person's way through a study: what is shown next, and what an answer does. The truth stays on this side."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import io
import time
from typing import Any

from PIL import Image

from imagegen_jax.pages.judge.study import Study
from imagegen_jax.pages.judge.trials import Trial, chosen_a, milliseconds, pictures_of, trials_of
from imagegen_jax.pages.judge.votes import Vote, Votes

LEAST = 256  # pixels on the screen of the shorter side


@dataclasses.dataclass(frozen=True)
class Judging:
    """A study that people answer; `secret` names pictures, so that no name says anything of them."""

    study: Study
    votes: Votes
    secret: bytes

    def next_of(self, voter: str) -> Trial | None:
        """Returns the first trial that a person has not answered; None at the end."""
        given = {vote.trial for vote in self.votes.of(voter)}
        return next((trial for trial in self._trials(voter) if trial.number not in given), None)

    def shown(self, voter: str) -> dict[str, Any]:
        """Returns what the page may know of the next trial: nothing but pictures, sizes, times and how far it is."""
        trial = self.next_of(voter)
        settings = self.study.settings
        if trial is None:
            return {"end": True, "done": settings.trials, "of": settings.trials}
        height, width = self.study.a.shape[1:3]
        zoom = max(1, -(-LEAST // min(height, width)))
        return {
            "trial": trial.number, "done": len(self.votes.of(voter)), "of": settings.trials,
            "pictures": [self._name(voter, trial, side) for side in (0, 1)],
            "width": width * zoom, "height": height * zoom, "pixels": zoom > 1, "milliseconds": self._time(voter),
        }  # fmt: skip

    def answer(self, voter: str, number: Any, side: Any, seconds: Any) -> None:
        """Keeps an answer to the trial that is shown; an answer to one that is answered already changes nothing.

        Raises ValueError for what is no answer.
        """
        if side not in (0, 1) or isinstance(side, bool) or not isinstance(number, int):
            raise ValueError("an answer is a trial's number and a side, 0 or 1")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e6:
            raise ValueError("an answer says after how many seconds it came")
        trial = self.next_of(voter)
        if trial is None or trial.number != number:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.votes.add(
            Vote(voter, number, trial.pair, trial.catch, chosen_a(trial, side), side == 0, round(float(seconds), 3),
                 self._time(voter), now)
        )  # fmt: skip

    def picture(self, voter: str, name: str) -> bytes | None:
        """Returns a picture of the trial that is shown, as PNG; None for any other name.

        It is not compressed: all pictures have as many bytes.
        """
        trial = self.next_of(voter)
        if trial is None:
            return None
        for side in (0, 1):
            if hmac.compare_digest(name.encode(), self._name(voter, trial, side).encode()):
                return png(pictures_of(self.study, trial)[side])
        return None

    def _time(self, voter: str) -> int | None:
        right = [not vote.chose_a for vote in self.votes.of(voter) if not vote.catch]
        return milliseconds(self.study.settings, right)

    def _name(self, voter: str, trial: Trial, side: int) -> str:
        return hmac.new(self.secret, f"{voter} {trial.number} {side}".encode(), hashlib.sha256).hexdigest()[:24]

    @functools.lru_cache(maxsize=64)  # noqa: B019 - as long as its server
    def _trials(self, voter: str) -> list[Trial]:
        return trials_of(self.study, voter)


def png(picture: Any) -> bytes:
    """Writes a picture, uint8 [h w c], as a PNG without compression and with nothing but pixels in it."""
    out = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(out, "PNG", compress_level=0)
    return out.getvalue()
