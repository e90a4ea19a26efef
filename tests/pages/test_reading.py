"""Metrics of a file that is still written."""

from __future__ import annotations

import pathlib

from imagegen_jax.pages import reading


def test_what_was_added_is_read_and_all_of_a_file_that_was_written_anew(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "metrics.jsonl"
    growing = reading.Growing(file)
    assert growing.read() == {}
    file.write_text('{"step": 1, "loss": 1}\n{"step": 2, "lo')
    assert list(growing.read()) == [1]
    with file.open("a") as added:
        added.write('ss": 2}\nno json\n{"step": 3, "loss": 3}\n')
    assert [row["loss"] for row in growing.read().values()] == [1, 2, 3]
    file.write_text('{"step": 1, "loss": 1}\n{"step": 4, "loss": 5}\n' + '{"step": 5, "loss": 6}\n' * 9)
    assert list(growing.read()) == [1, 4, 5]
    file.unlink()
    assert growing.read() == {}
