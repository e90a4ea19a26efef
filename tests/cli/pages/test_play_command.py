"""`imagegen play`: what it refuses before it serves."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True)
def _in_a_place(place):
    pass


def test_what_cannot_be_served_is_said_before(imagegen, tmp_path):
    code, _, said = imagegen("play", tmp_path)
    assert code == 1 and str(tmp_path) in said
    (tmp_path / "file").write_text("")
    code, _, said = imagegen("play", "--port", 0, "--gallery", tmp_path / "file" / "pictures")
    assert code == 1 and "--gallery" in said and "another folder" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, said = imagegen("play", "--port", taken.getsockname()[1])
    assert code == 1 and "is taken" in said
    code, _, said = imagegen("play", "--gallery", tmp_path / "file" / "pictures", "--module", "no_such_module")
    assert code == 1 and "no_such_module" in said
    code, _, said = imagegen("play", "--port", 70000)
    assert code == 2 and "65535" in said
