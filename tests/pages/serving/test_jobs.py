"""Jobs: one after another, watched and stopped by their own visitor alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
from starlette.testclient import TestClient

from imagegen_jax.pages.serving.jobs import KEPT, Busy, Job, Jobs, Told
from imagegen_jax.pages.serving.site import Site


def told(client: TestClient, job: str) -> list[tuple[str, dict[str, Any]]]:
    """All events of a job, from its stream."""
    pieces = [piece.split("\n") for piece in client.get(f"/jobs/{job}").text.strip().split("\n\n")]
    return [(name[len("event: ") :], json.loads(data[len("data: ") :])) for _, name, data in pieces]


def start(client: TestClient, to: int) -> str:
    return client.post("/count", json={"to": to}).json()["job"]


def test_a_job_tells_how_far_it_is_and_its_end(client: TestClient, gate: threading.Event) -> None:
    gate.set()
    events = told(client, start(client, 3))
    assert events[-2:] == [("progress", {"at": 2}), ("done", {"counted": 3})]
    assert [name for name, _ in events].count("progress") == 1  # of those of a name, the last


def test_what_goes_wrong_is_told(client: TestClient, gate: threading.Event, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(client, start(client, 0))[-1] == ("failed", {"error": "nothing to count"})
    for to, bug in ((-1, "RuntimeError"), (-2, "TypeError")):
        name, data = told(client, start(client, to))[-1]
        assert name == "failed" and "terminal" in data["error"] and "secret" not in data["error"]
        assert f"{bug}: a secret" in capsys.readouterr().err


def test_a_job_is_stopped_at_work_and_while_it_waits(client: TestClient, gate: threading.Event) -> None:
    working, waiting = start(client, 3), start(client, 3)
    client.post(f"/jobs/{waiting}/stop")
    assert told(client, waiting)[-1][0] == "stopped"
    client.post(f"/jobs/{working}/stop")
    gate.set()
    assert told(client, working)[-1][0] == "stopped"
    assert told(client, start(client, 1))[-1][0] == "done"


def test_jobs_are_their_visitors_alone(client: TestClient, site: Site, gate: threading.Event) -> None:
    other = TestClient(site.app, base_url="http://127.0.0.1")
    other.get(f"/?key={site.visitors.key}")
    other.headers["x-token"] = site.visitors.token(site.visitors.named(other.cookies[site.visitors.cookie_name]) or "")
    job = start(client, 1)
    assert other.get(f"/jobs/{job}").status_code == other.post(f"/jobs/{job}/stop").status_code == 404
    assert client.get("/jobs/none").status_code == 404
    gate.set()
    assert told(client, job)[-1][0] == "done"


def test_places_in_the_queue_and_a_queue_that_is_full(gate: threading.Event) -> None:
    def waits() -> Generator[Told, None, dict[str, Any]]:
        yield "progress", {}
        gate.wait(10)
        return {}

    jobs = Jobs(most=2)
    first = jobs.add("a", waits)
    while not any(event.name == "progress" for event in first.since(-1)):
        time.sleep(0.01)
    second, third = jobs.add("a", waits), jobs.add("b", waits)
    assert [third.since(-1)[-1].name, third.since(-1)[-1].data] == ["waiting", {"ahead": 1}]
    with pytest.raises(Busy, match="2 jobs"):
        jobs.add("a", waits)
    jobs.stop(second)
    assert third.since(-1)[-1].data == {"ahead": 0}
    gate.set()


def nothing() -> Generator[Told, None, dict[str, Any]]:
    yield from ()
    return {}


def test_nothing_is_told_after_the_end_and_ended_jobs_are_forgotten() -> None:
    job = Job("a", nothing)
    job.tell("done", n=1)
    job.tell("progress")
    assert [event.name for event in job.since(-1)] == ["done"] and job.ended
    jobs = Jobs(most=1000)
    made = [jobs.add("a", nothing) for _ in range(KEPT + 20)]
    while not all(job.ended for job in made):
        time.sleep(0.01)
    last = jobs.add("a", nothing)
    assert jobs.of("a", made[0].identifier) is None and jobs.of("a", last.identifier) is last
