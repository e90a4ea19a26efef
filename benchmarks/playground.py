"""How long `imagegen play` takes to serve, to load, and to draw, with an empty cache and a warm one.

    python benchmarks/playground.py [RUN]

Without RUN, with the digits of the package. Each time is from the command, or from sending what the page sends, until
the answer is there; "CPU" is what the server's process has used until then. Writes
benchmarks/results/playground.json and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

import httpx
from machine import write_result


class Server:
    """`imagegen play` in a process of its own."""

    def __init__(self, runs: list[str], cache: pathlib.Path, folder: pathlib.Path) -> None:
        command = [
            sys.executable,
            "-m",
            "imagegen_jax",
            "play",
            *runs,
            "--port",
            "0",
            "--gallery",
            str(folder / "gallery"),
        ]
        self.start = time.perf_counter()
        env = os.environ | {"IMAGEGEN_CACHE": str(cache), "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout is not None
        address = next(line for line in self.process.stdout if "http://" in line).split()[-1]
        self.client = httpx.Client(base_url=address.split("/?")[0], follow_redirects=True, timeout=600)
        page = self.client.get(address, headers={"accept": "text/html"}).text  # that the model is being loaded
        self.answered, self.answered_cpu = self.seconds(), self.cpu()
        if "token" not in page:
            page = self.client.get("/").text  # which waits for the model
        self.client.headers["x-token"] = re.findall(r'name="token" content="([^"]+)"', page)[0]

    def seconds(self) -> float:
        """Returns the seconds since the command."""
        return time.perf_counter() - self.start

    def cpu(self) -> float:
        """Returns the seconds of processors that the process has used."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def draw(self, **given: Any) -> float:
        """Draws, and returns the seconds until the pictures are there."""
        start = time.perf_counter()
        job = self.client.post("/draw", json=given).json()["job"]
        assert "event: done" in self.client.get(f"/jobs/{job}").text
        return time.perf_counter() - start

    def stop(self) -> float:
        """Begins a long drawing and stops it; returns the seconds until the queue is free."""
        job = self.client.post("/draw", json={"n": 16, "steps": 256}).json()["job"]
        with self.client.stream("GET", f"/jobs/{job}") as stream:
            for line in stream.iter_lines():
                if "progress" in line:
                    break
        start = time.perf_counter()
        self.client.post(f"/jobs/{job}/stop")
        self.client.get(f"/jobs/{job}")
        return time.perf_counter() - start

    def close(self) -> None:
        """Ends the process."""
        self.process.terminate()
        self.process.wait()


def measured(runs: list[str], cache: pathlib.Path, folder: pathlib.Path) -> dict[str, float]:
    """Returns the times of a server that is started anew."""
    server = Server(runs, cache, folder)
    try:
        found = {"served": server.answered, "served CPU": server.answered_cpu}
        found |= {"model there": server.seconds(), "model there CPU": server.cpu()}
        found["first picture, from asking"] = server.draw(n=8)
        found |= {"first picture": server.seconds(), "first picture CPU": server.cpu()}
        before = server.cpu()
        found["next"] = server.draw(n=8, seed=100, steps=12)
        found["next CPU"] = server.cpu() - before
        found["stopped"] = server.stop()
    finally:
        server.close()
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Measures both, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="*", help="folders of runs (default: the digits of the package)")
    runs = parser.parse_args().run
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        rows = {name: measured(runs, folder / "cache", folder) for name in ("empty cache", "warm cache")}
    write_result("playground", rows)
    names = list(next(iter(rows.values())))
    print("| | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f} s" for value in row.values()) + " |")
    print(json.dumps(rows), file=sys.stderr)


if __name__ == "__main__":
    main()
