"""Two sides of a comparison, each in a process and a Python of its own that only the one at work wakes up."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


class Side:
    """A process that says what it is on its first line, and answers each request with a line of JSON."""

    def __init__(self, command: list[str]) -> None:
        """Starts it, and waits until it is ready."""
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self._answer()

    def ask(self, request: object) -> Any:
        """Its answer to one request."""
        print(request, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            command = " ".join(map(str, self.process.args))
            raise SystemExit(f"{command} ended with code {self.process.wait()}; see above")
        return json.loads(line)

    def close(self) -> None:
        """Ends it: there are no more requests."""
        self.process.communicate()


def tell(answer: object, file: Any = None) -> None:
    """What a side says: a line of JSON."""
    print(json.dumps(answer), file=file or sys.stdout, flush=True)
