"""Parts that behave badly, for `test_on_accelerator.py`: named as "parts_for_tests:NAME"."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def well(settings, tell, *arguments):
    tell({"arguments": arguments, "left": settings.until - time.time()})


def sleeps(settings, tell):
    child = subprocess.Popen(SLEEP)
    tell({"processes": [os.getpid(), child.pid]})
    print("so far so good", file=sys.stderr, flush=True)
    time.sleep(600)


def raises(settings, tell):
    tell({"before": 1})
    raise RuntimeError("the network is upside down")


def says_why(settings, tell):
    raise SystemExit("attention differs by 0.5")


def is_killed(settings, tell):
    os.kill(os.getpid(), signal.SIGSEGV)


def reads_the_file(settings, tell):
    tell({"first": 1})
    file = pathlib.Path(settings.out, "on_accelerator.json")
    while '"first"' not in (text := file.read_text()):
        time.sleep(0.05)
    tell({"saw": text})


def no_accelerator(settings, tell):
    tell({"jax": {"version": "0.0", "file": "jax.py", "platform": "cpu", "devices": ["cpu"]}})
