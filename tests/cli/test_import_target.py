"""Experiments in files that fail as they are imported: one message with file, line and reason."""

import pytest

from imagegen_jax import cli

pytestmark = pytest.mark.versions

BROKEN = {
    "missing": ("import os\nimport no_such_library", "line 2: ModuleNotFoundError: No module named 'no_such_library'"),
    "name": ("from imagegen_jax import Experimnt", "line 1: ImportError: cannot import name 'Experimnt'"),
    "syntax": ("\n\nx = (1,", "line 3: SyntaxError: '(' was never closed"),
    "indent": ("def f():\nx = 1", "line 2: IndentationError"),
    "exits": ("import sys\nsys.exit(0)", "line 2: SystemExit: 0"),
    "raises": ("def f():\n    return 1 / 0\nf()", "line 2: ZeroDivisionError"),
    "refuses": (  # in a file of the package, of which the user need not know
        "from imagegen_jax.diffusion.sampling.heun import RestartInterval\n\nRestartInterval(0.3, 0.06)",
        "line 3: ValueError: interval RestartInterval(",
    ),
    "asserts": ("assert False", "line 1: AssertionError"),
    "library": ("import json\njson.loads('x')", "line 2: JSONDecodeError"),
    "field": ("import imagegen_jax\nimagegen_jax.Experiment()", "line 2: TypeError"),
    "bytes": ("\xff\x00", "bytes.py"),
    "empty": ("", "has no `experiment`"),
    "wrong": ("experiment = {'steps': 1}", "has no `experiment`, but a dict"),
}
NO_TARGETS = ["no_such_module", "no.such.module", "nothing.py", "a b", "../up", "", ".", "a..b", "os", "\N{SNOWMAN}.py"]


def said(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    text = capsys.readouterr().err
    assert exit.value.code == 1 and text.startswith("error: ") and len(text.splitlines()) <= 2, text
    return text


@pytest.mark.parametrize("command", ["train", "info"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_imported_is_named_with_line_and_reason(tmp_path, monkeypatch, capsys, command, kind):
    text, reason = BROKEN[kind]
    (tmp_path / f"{kind}.py").write_bytes(text.encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    found = said(capsys, command, f"{kind}.py")
    assert reason in found and kind in found


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind not in ("empty", "wrong")])
def test_a_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch, capsys, kind):
    text, reason = BROKEN[kind]
    (tmp_path / f"broken_{kind}.py").write_bytes(text.encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert reason.replace("bytes.py", "broken_bytes") in said(capsys, "info", f"broken_{kind}")
    assert f"broken_{kind}" in said(capsys, "sample", str(tmp_path), "--module", f"broken_{kind}")


@pytest.mark.parametrize("target", NO_TARGETS)
@pytest.mark.parametrize("command", ["train", "info"])
def test_what_is_no_module_is_named(tmp_path, monkeypatch, capsys, command, target):
    monkeypatch.chdir(tmp_path)
    found = said(capsys, command, target)
    assert target in found


def test_a_smoke_that_is_no_mapping_is_named(tmp_path, capsys):
    (tmp_path / "odd.py").write_text("from toy_experiment import experiment\nsmoke = [1]")
    assert "`smoke` is a list" in said(capsys, "train", str(tmp_path / "odd.py"))
