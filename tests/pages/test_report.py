"""The report of a run: what it shows of a folder, whole or not, and that nothing in the folder can break the page."""

from __future__ import annotations

import base64
import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import zlib
from typing import Any

import numpy as np
import pytest

from imagegen_jax.core.drawing.grid import write_png
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.pages import grids, reading
from imagegen_jax.pages.report import write_report

EXPERIMENT = {
    "class": "imagegen_jax.core.experiment:Experiment",
    "name": "toy",
    "model": {
        "class": "imagegen_jax.diffusion.models.ddpm:DDPM",
        "multipliers": [1, 2, 2],
        "num_classes": 3,
        "rate": 2e-4,
    },
    "augment": [{"class": "imagegen_jax.data.image:HorizontalFlip", "probability": 0.5}],
    "averages": {"ema": {"class": "imagegen_jax.core.ema:Plain"}},
    "pretrained": {},
    "samples": 6,
    "steps": 800_000,
}


def png(width: int, height: int, comment: bytes = b"") -> bytes:
    """The smallest black PNG of a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return len(content).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress(bytes((width + 1) * height))
    chunks = [chunk(b"IHDR", header), chunk(b"tEXt", comment), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture
def run(tmp_path: pathlib.Path) -> pathlib.Path:
    """A made-up run that was killed while it wrote its metrics."""
    networks = {"generator": [288, 32], "critic": [64]}
    parameters = {
        network: {
            "count": sum(counts),
            "bytes": 4 * sum(counts),
            "arrays": [{"name": f"array_{n}", "shape": [n], "dtype": "float32", "count": n} for n in counts],
        }
        for network, counts in networks.items()
    }
    (tmp_path / "samples").mkdir()
    for step in (100, 200):
        (tmp_path / "samples" / f"{step:08d}.png").write_bytes(png(40, 20, str(step).encode()))
    write_json(tmp_path / "experiment.json", EXPERIMENT)
    write_json(tmp_path / "data.json", {"rows": {}, "class_names": ["ant", "bee", "cat"]})
    write_json(tmp_path / "parameters.json", parameters)
    write_json(tmp_path / "environment.json", {"devices": {"cpu": 8}, "git_commit": None, "versions": {"jax": "0.12"}})
    write_lines(
        tmp_path / "metrics.jsonl",
        [
            {"step": 100, "time": 0.0, "images_per_second": 1234.5, "d/grad_norm": 0.5, "d/loss": 3.0},
            {"step": 200, "time": 1.0, "images_per_second": 1300.0, "d/grad_norm": None, "d/loss": 1.5, "p/loss": 9},
            {"step": 250, "time": 2.0, "d/grad_norm": float("nan"), "p/loss": float("inf")},
        ],
        '{"step": 300, "tim',
    )
    return tmp_path


def write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def write_lines(path: pathlib.Path, lines: list[Any], damaged: str = "") -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + damaged)


class Page(html.parser.HTMLParser):
    """What a browser makes of a page, as far as these tests ask."""

    EMPTY = ("meta", "img", "input", "br")

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text += data + " "

    @property
    def curves(self) -> dict[str, list[list[float]]]:
        return json.loads(self.scripts[1])

    @property
    def pictures(self) -> list[bytes]:
        prefix = "data:image/png;base64,"
        return [base64.b64decode(link.removeprefix(prefix)) for link in self.links if link.startswith(prefix)]


def test_everything_in_the_folder_is_shown(run: pathlib.Path) -> None:
    assert write_report(run) == run / "report.html"
    page = Page(run / "report.html")
    words = " ".join(page.text.split())
    assert "step 250 of 800,000 (0 %), unfinished" in words
    assert "model DDPM" in words and "parameters 384" in words and "devices 8 x cpu" in words
    assert "ant bee cat" in words
    for field in ("multipliers (1, 2, 2)", "rate 0.0002", "steps 800_000", "0 HorizontalFlip", "ema Plain"):
        assert field in words, field
    for row in ("generator 2 320 0.001221", "critic 1 64 0.0002441", "total 3 384 0.001465", "array_288 288 float32"):
        assert row in words, row
    assert "d/loss 3 1.5 3 1.5 200" in words  # first, lowest, highest, last, at step
    assert "jax '0.12'" in words and "git_commit None" in words


def test_the_page_of_a_private_run_has_no_seed(run: pathlib.Path) -> None:
    write_json(run / "experiment.json", EXPERIMENT | {"seed": 98765, "private": {"noise": 2.0}})
    write_json(run / "environment.json", {"command": ["/x/imagegen", "train", "toy", "--seed", "98765"]})
    page = write_report(run).read_text("utf-8")
    assert "98765" not in page and "imagegen train toy" in page


def test_page_asks_for_nothing_outside_itself(run: pathlib.Path) -> None:
    page = Page(write_report(run))
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    outside = re.findall(r"https?://[^\s\"')]+|@import|url\(", (run / "report.html").read_text())
    assert set(outside) == {"http://www.w3.org/2000/svg"}  # the name of a namespace, not an address that is fetched


def test_curves_skip_what_is_damaged_or_not_finite_and_begin_with_losses(run: pathlib.Path) -> None:
    curves = Page(write_report(run)).curves
    assert list(curves) == ["d/loss", "p/loss", "d/grad_norm", "images_per_second"]
    assert curves["d/loss"] == [[100, 3.0], [200, 1.5]]
    assert curves["d/grad_norm"] == [[100, 0.5]]


def test_thinned_curve_keeps_its_ends_and_its_spikes() -> None:
    points = [(step, 1.0 + step % 7) for step in range(100_000)]
    points[54_321], points[77_777] = (54_321, 1e6), (77_777, -1e6)
    thinned = reading.thin(points)
    assert len(thinned) <= reading.POINTS and thinned == sorted(thinned)
    assert {points[0], points[-1], points[54_321], points[77_777]} <= set(thinned)
    assert max(b - a for (a, _), (b, _) in zip(thinned, thinned[1:], strict=False)) < 500
    assert reading.thin(points[: reading.POINTS]) == points[: reading.POINTS]


def test_pictures_are_embedded_whole_and_the_newest_is_large(run: pathlib.Path) -> None:
    page = Page(write_report(run))
    first, newest = (run / "samples" / "00000100.png").read_bytes(), (run / "samples" / "00000200.png").read_bytes()
    assert page.pictures == [newest, first, newest]  # the large one, then the strip
    assert 'width="640" height="320"' in (run / "report.html").read_text()  # 40 x 20, magnified 16 times


def test_prompts_of_the_newest_grid_are_named(run: pathlib.Path) -> None:
    newest = run / "samples" / "00000200.png"
    assert "row by row" not in Page(write_report(run)).text
    write_png(newest, np.zeros((2, 2, 3), np.uint8), Origin(prompts=("a <b>red</b> circle", "grün")))
    assert "prompts, row by row a <b>red</b> circle grün" in " ".join(Page(write_report(run)).text.split())
    for damaged in (b"prompts\0[", b"prompts\x003", b"prompts\0" + b"[" * 100_000):
        newest.write_bytes(png(2, 2, damaged))
        assert "row by row" not in Page(write_report(run)).text


def test_a_single_picture_has_no_slider(run: pathlib.Path) -> None:
    (run / "samples" / "00000100.png").unlink()
    page = Page(write_report(run))
    assert len(page.pictures) == 1 and "play" not in page.text.split()


def test_many_pictures_are_chosen_evenly(run: pathlib.Path) -> None:
    for step in range(1, 1001):
        (run / "samples" / f"{step:08d}.png").write_bytes(png(1, 1, str(step).encode()))
    page = Page(write_report(run))
    assert len(page.pictures) == 1 + grids.GRIDS
    assert page.pictures[1] == png(1, 1, b"1") and page.pictures[-1] == page.pictures[0] == png(1, 1, b"1000")
    assert "40 of 1000 grids, evenly chosen" in page.text


def test_large_pictures_are_fewer(run: pathlib.Path) -> None:
    for step in range(8):
        (run / "samples" / f"{step:08d}.png").write_bytes(png(1, 1, bytes(grids.GRIDS_BYTES // 4)))
    assert len(Page(write_report(run)).pictures) <= 1 + 4


def test_a_file_that_is_no_picture_is_left_out(run: pathlib.Path) -> None:
    (run / "samples" / "00000300.png").write_bytes(b"")
    (run / "samples" / "notes.png").write_bytes(b"x")
    assert len(Page(write_report(run)).pictures) == 1 + 2


def test_an_empty_folder_gives_a_page_that_says_what_it_lacks(tmp_path: pathlib.Path) -> None:
    page = Page(write_report(tmp_path))
    for part in ("samples/*.png", "metrics.jsonl", "experiment.json", "parameters.json", "environment.json"):
        assert f"This folder has no readable {part}." in page.text
    assert page.curves == {}


def test_damaged_parts_do_not_stop_the_others(run: pathlib.Path) -> None:
    (run / "experiment.json").write_text('{"name": "to')
    (run / "environment.json").write_text("[]")
    page = Page(write_report(run))
    assert "no readable experiment.json" in page.text and "no readable environment.json" in page.text
    assert "at step 250" in page.text and page.curves["d/loss"]


def test_evaluations_have_a_table_that_fits(run: pathlib.Path) -> None:
    card = {"metric": "FD", "value": 3.17, "low": 2.5, "high": 4.125, "versions": {"jax": "0.10", "own": None}}
    write_lines(run / "evaluations.jsonl", [card, {"metric": "IS", "value": 2, "low": None, "high": None, "seed": 50}])
    words = " ".join(Page(write_report(run)).text.split())
    assert "metric value 95 % interval IS 2 FD 3.17 2.5 to 4.125" in words  # the newest first
    assert "how each was measured metric seed versions IS 50 FD jax 0.10" in words
    assert "FD distance of features' Gaussians; lower is better" in words


def test_many_evaluations_are_folded(run: pathlib.Path) -> None:
    write_lines(run / "evaluations.jsonl", [{"metric": "FID", "value": value} for value in range(30)])
    words = " ".join(Page(write_report(run)).text.split())
    assert "metric value FID 29 FID 28" in words and "18 earlier scores metric value FID 17" in words


def test_metrics_are_explained_in_place(run: pathlib.Path) -> None:
    scripts = [json.loads(text) for text in Page(write_report(run)).scripts if text.startswith("{")]
    assert any("minimises" in meanings.get("d/loss", "") for meanings in scripts)


def test_a_trace_is_summed_up(run: pathlib.Path) -> None:
    assert "Largest operations" not in Page(write_report(run)).text
    operations = [{"name": "<dot>", "ms": 1.5, "share": 0.75, "calls": 2.0}]
    write_json(run / "profile.json", {"from": 20, "to": 25, "total_ms": 2.0, "operations": operations})
    words = " ".join(Page(write_report(run)).text.split())
    assert "<dot> 1.5 75.0 % 2" in words and "Of training steps 20 to 25, 2 ms a step in all" in words
    write_json(run / "profile.json", {"from": 20})
    assert "no readable profile.json" in Page(write_report(run)).text


def test_changes_have_a_table(run: pathlib.Path) -> None:
    write_lines(run / "changes.jsonl", [{"steps": [400_000, 800_000]}])
    words = " ".join(Page(write_report(run)).text.split())
    assert "Changed on resuming field was became steps 400,000 800,000" in words


def test_a_run_that_was_imported_says_from_where(run: pathlib.Path) -> None:
    assert "imported" not in Page(write_report(run)).text
    write_json(run / "origin.json", {"library": "diffusers", "weights": "unet/a.safetensors", "sha256": "0123abcd"})
    page = Page(write_report(run))
    assert all(part in page.text for part in ("imported", "unet/a.safetensors", "0123abcd"))


def test_nothing_in_the_folder_can_break_the_page(run: pathlib.Path) -> None:
    evil = '</script><script>alert("&")</script>'
    expected = Page(write_report(run)).tags.count("script")
    write_json(run / "experiment.json", EXPERIMENT | {"name": evil, evil: {"class": f"a:{evil}", evil: [evil]}})
    write_json(run / "data.json", {"class_names": [evil] * 3})
    write_json(run / "environment.json", {evil: evil, "devices": {evil: 1}})
    write_lines(run / "metrics.jsonl", [{"step": 1, f"{evil}/loss": 1.0}])
    write_lines(run / "evaluations.jsonl", [{evil: evil, "low": evil, "high": None, "versions": {evil: evil}}])
    page = Page(write_report(run))
    assert page.tags.count("script") == expected
    assert list(page.curves) == [f"{evil}/loss"]
    assert evil in page.text


def test_a_report_that_fails_leaves_the_old_one(run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(run).read_text()
    files = set(run.iterdir())
    monkeypatch.setattr(pathlib.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(run)
    assert (run / "report.html").read_text() == before and set(run.iterdir()) == files


def test_no_partial_file_is_left(run: pathlib.Path) -> None:
    before = set(run.iterdir())
    write_report(run)
    assert set(run.iterdir()) - before == {run / "report.html"}


def test_what_is_no_folder_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="nowhere is no folder.*--workdir"):
        write_report(tmp_path / "nowhere")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to read JavaScript")
def test_script_is_valid(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "script.js"
    script.write_text(Page(write_report(run)).scripts[3])
    done = subprocess.run(["node", "--check", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pictures_of_latents_are_said_to_be_for_looking_at(run: pathlib.Path) -> None:
    """Those of images are not."""
    said = "Samples are latents; the pictures show three of their channels, for looking at only."
    assert said not in Page(write_report(run)).text
    space = {"class": "imagegen_jax.core.arrays.space:Latents", "scale": 0.2, "shift": 0.0}
    write_json(run / "experiment.json", {**EXPERIMENT, "model": {**EXPERIMENT["model"], "space": space}})
    assert said in Page(write_report(run)).text
