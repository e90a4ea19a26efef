"""Votes on the disk: a line each, written before it is answered, so that neither a reload nor a crash loses one."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import threading

VOTES = "votes.jsonl"


@dataclasses.dataclass(frozen=True)
class Vote:
    """One answer."""

    voter: str
    trial: int
    pair: int
    catch: bool
    chose_a: bool  # of a catch trial: the scrambled picture
    left: bool  # which side was chosen
    seconds: float  # from the sight of the pictures to the answer
    milliseconds: int | None = None  # that the pictures were seen; None: until the answer
    time: str = ""  # UTC


class Votes:
    """All votes of a study, in a file that is only added to."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._path = folder / VOTES
        self._lock = threading.Lock()
        self.all = read_votes(folder)
        self._given = {(vote.voter, vote.trial) for vote in self.all}

    def of(self, voter: str) -> list[Vote]:
        """Returns a person's votes, in their order."""
        return [vote for vote in list(self.all) if vote.voter == voter]

    def add(self, vote: Vote) -> bool:
        """Writes a vote; False where there is one already for that trial, such as of a second click."""
        with self._lock:
            if (vote.voter, vote.trial) in self._given:
                return False
            with self._path.open("ab") as file:
                if file.tell() and not _ends_whole(self._path):  # the last writer was killed in the middle of a line
                    file.write(b"\n")
                file.write(json.dumps(dataclasses.asdict(vote)).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self.all.append(vote)
            self._given.add((vote.voter, vote.trial))
        return True


def _ends_whole(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def read_votes(folder: pathlib.Path) -> list[Vote]:
    """Reads the votes of a folder, of several for one trial the first; a line that was cut off is passed over."""
    path = folder / VOTES
    found: dict[tuple[str, int], Vote] = {}
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            vote = Vote(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found.setdefault((vote.voter, vote.trial), vote)
    return list(found.values())
