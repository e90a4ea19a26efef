"""TPUs that are not here, while their library is: jax starts as without it, and what is chosen stays."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys

import pytest

from imagegen_jax.core.platform.absent import hush_absent_tpus, hush_absent_tpus_with_jax, look_for_no_tpus

pytestmark = pytest.mark.versions


def test_nothing_is_hushed_where_jax_may_have_found_a_tpu():
    environment = {}
    hush_absent_tpus(environment)
    assert not environment


def test_what_is_chosen_stays():
    environment = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_ID": "3"}
    hush_absent_tpus(environment)
    assert environment["TPU_WORKER_ID"] == "3" and environment["TPU_WORKER_HOSTNAMES"] == "localhost"
    alone = {}
    look_for_no_tpus(alone)
    assert alone["TPU_SKIP_MDS_QUERY"] == "1" and alone["TPU_WORKER_ID"] == "0"


def test_jax_is_imported_as_ever_and_hushed_then_whoever_imports_it(monkeypatch, tmp_path):
    (tmp_path / "jax.py").write_text("import os; seen = os.environ.get('TPU_WORKER_ID')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "modules", {name: one for name, one in sys.modules.items() if name.split(".")[0] != "jax"})
    monkeypatch.setattr(os, "environ", {"TPU_SKIP_MDS_QUERY": "1"})
    monkeypatch.setattr(hush_absent_tpus, "__defaults__", (os.environ,))
    before = list(sys.meta_path)
    hush_absent_tpus_with_jax()
    assert "TPU_WORKER_ID" not in os.environ
    found = importlib.import_module("jax")
    assert found.seen is None and os.environ["TPU_WORKER_ID"] == "0" and sys.meta_path == before


@pytest.mark.slow
def test_the_library_without_a_tpu_changes_nothing():
    """Without this, it logs ten lines of what it could not find."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install imagegen_jax[tpu]")
    program = "import imagegen_jax, jax; print({device.platform for device in jax.devices()} & {'tpu'})"
    hidden = ("JAX_PLATFORMS", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden and "TPU" not in name}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100)
    if done.stdout.strip() == "{'tpu'}":
        pytest.skip("there are TPUs here")
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
