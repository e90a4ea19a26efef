"""A command in a pseudo-terminal: when its screen changes, and what it says when it is interrupted."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time


def _as_in_a_shell():
    """Undoes what nohup or a shell's "&" has done to the signals of the tests' own process."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


class Terminal:
    """A process whose three streams are a pseudo-terminal; `chunks` has all that it wrote, with the time."""

    def __init__(self, *arguments, **environment):
        self.master, slave = pty.openpty()
        self.begun = time.monotonic()
        self.chunks = [(self.begun, "")]
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "XLA_FLAGS": "", **environment}, preexec_fn=_as_in_a_shell,
        )  # fmt: skip
        os.close(slave)

    @property
    def text(self):
        return "".join(text for _, text in self.chunks)

    def read(self, seconds, until=None):
        """Reads for so long, or until the text has `until`, or until nothing more can come."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not (until and until in self.text):
            if not select.select([self.master], [], [], left)[0]:
                break
            try:
                found = os.read(self.master, 65536)
            except OSError:  # how Linux says that the last of the other end was closed
                break
            if not found:
                break
            self.chunks.append((time.monotonic(), found.decode(errors="replace")))
        if until:
            assert until in self.text, self.text

    def interrupt(self, signum=signal.SIGINT):
        """Sends a signal; returns when."""
        self.process.send_signal(signum)
        return time.monotonic()

    def end(self, seconds):
        """Reads until the process ends, within so many seconds; returns its code."""
        self.read(seconds)
        return self.process.wait(max(0.1, seconds))

    def longest_silence(self):
        """The longest time, in seconds, from the start on, in which the screen did not change."""
        times = [at for at, _ in self.chunks]
        return max(after - before for before, after in zip(times, times[1:], strict=False))

    def hang_up(self):
        """Closes the terminal, as its window is closed."""
        os.close(self.master)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
