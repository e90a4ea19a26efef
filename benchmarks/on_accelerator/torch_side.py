"""The side of PyTorch, in an interpreter that has it."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys

from on_accelerator.parts import Settings, Tell

SCRIPT = pathlib.Path(__file__).resolve().parent / "torch_steps.py"


def measure(settings: Settings, tell: Tell) -> None:
    """Tells what it says, line by line. Raises SystemExit where it ends otherwise than it should."""
    python = settings.torch or (sys.executable if importlib.util.find_spec("torch") else None)
    if python is None:
        tell({"not_measured": "no interpreter with torch was given (--torch PYTHON)"})
        return
    command = [python, str(SCRIPT), "tiny" if settings.dry_run else "full"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):  # libraries of its own may say something there
                tell(json.loads(line))
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}")
