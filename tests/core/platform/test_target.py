"""Programs are made for one platform, this machine's or another, and nothing that jax keeps is used for both."""

import functools
import threading
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from mechanisms import small

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.experiment import example_batch, model_row_shapes
from imagegen_jax.core.platform.target import cached_by_platform, devices, made_for, platform, platform_here
from imagegen_jax.core.program import abstract_state
from imagegen_jax.core.step import RunConstants, due_at, stage_at
from imagegen_jax.nn.precision import compute_dtype

pytestmark = pytest.mark.versions


def test_one_file_asks_jax_for_the_platform(root):
    asking = {
        str(path.relative_to(root))
        for folder in ("imagegen_jax", "experiments", "benchmarks", "scripts")
        for path in (root / folder).rglob("*.py")
        if "default_backend" in path.read_text()
    }
    assert asking == {"imagegen_jax/core/platform/target.py"}


def test_the_platform_is_that_of_this_machine_unless_another_is_named():
    assert platform() == platform_here() == "cpu"
    with made_for("tpu"):
        assert (platform(), platform_here()) == ("tpu", "cpu")
        with made_for("gpu"):
            assert platform() == "gpu"
        assert platform() == "tpu" and compute_dtype("auto") == jnp.bfloat16
    with pytest.raises(ZeroDivisionError), made_for("tpu"):
        _ = 1 / 0
    assert platform() == "cpu" and compute_dtype("auto") == jnp.float32


def test_other_threads_make_programs_for_this_machine():
    found = []
    with made_for("tpu"):
        thread = threading.Thread(target=lambda: found.append(platform()))
        thread.start()
        thread.join()
    assert found == ["cpu"]


def test_meshes_are_of_the_devices_that_are_named():
    here = jax.devices()
    assert devices() == here and MeshShape().build().size == 8
    with made_for("cpu", here[2:6]):
        assert list(MeshShape().build().devices.flat) == here[2:6]
        with pytest.raises(ValueError, match="does not fit 4 devices"):
            MeshShape(data=8).build()
        with made_for("tpu"):
            assert devices() == here
    assert MeshShape().build().size == 8


def test_a_mesh_leaves_none_of_several_described_processes_out():
    pod = [types.SimpleNamespace(platform="tpu", process_index=i // 4) for i in range(8)]
    with made_for("tpu", pod), pytest.raises(ValueError, match="leaves a process without any: use all 8"):
        MeshShape(data=4).build()


def test_what_fits_no_platform_is_refused():
    with pytest.raises(ValueError, match="platform 'cuda': programs are made for one of cpu, gpu, tpu"):
        made_for("cuda")
    with pytest.raises(ValueError, match="devices of cpu for a program of tpu: name their platform"):
        made_for("tpu", jax.devices())


# --- nothing crosses -------------------------------------------------------------------------------------------------


def scaled(x):
    """Doubles on a CPU, and triples elsewhere."""
    return x * (2.0 if platform() == "cpu" else 3.0)


@jax.custom_vjp
def with_backward(x):
    return scaled(x)


with_backward.defvjp(lambda x: (scaled(x), None), lambda _, slope: (scaled(slope),))


@jax.custom_jvp
def with_forward(x):
    return scaled(x)


with_forward.defjvp(lambda primals, tangents: (scaled(*primals), scaled(*tangents)))


class Scaled(nn.Module):
    @nn.compact
    def __call__(self, x):
        return scaled(x)


def looped(x):
    return jax.lax.scan(_body, x, length=1)[0]


def _body(x, _):
    return scaled(x), None


KEEPING = {
    "jit": jax.jit(scaled),
    "jit in jit": jax.jit(lambda x: jax.jit(scaled)(x)),
    "checkpoint": jax.checkpoint(scaled),
    "remat": functools.partial(nn.remat(Scaled)().apply, {}),
    "custom_vjp": with_backward,
    "custom_jvp": with_forward,
    "scan": looped,
    "cond": lambda x: jax.lax.cond(x > 0, scaled, scaled, x),
    "eval_shape": lambda x: x * jax.eval_shape(lambda n: jnp.zeros(int(scaled(1.0))) * n, x).shape[0],
}


@pytest.mark.parametrize("function", KEEPING.values(), ids=KEEPING)
def test_no_trace_is_used_for_another_platform(function):
    def value_and_slope():
        return float(function(1.0)), float(jax.grad(function)(1.0))

    assert value_and_slope() == (2.0, 2.0)
    with made_for("tpu"):
        assert value_and_slope() == (3.0, 3.0)
    assert value_and_slope() == (2.0, 2.0)


def test_what_is_cached_by_platform_is_made_once_for_each():
    made = []

    @cached_by_platform
    def one(name):
        made.append((name, platform()))
        return object()

    here = one("a")
    with made_for("tpu"):
        assert one("a") is one("a") is not here
    assert one("a") is here and one("b") is not here
    assert made == [("a", "cpu"), ("a", "tpu"), ("b", "cpu")]


def test_compiler_options_are_those_of_the_platform():
    here = compiling.compiler_options()
    assert here == compiling.CPU_OPTIONS
    with made_for("gpu"):
        assert not compiling.compiler_options()
    with made_for("tpu"):
        assert compiling.compiler_options() == compiling.TPU_OPTIONS
    assert compiling.compiler_options() == here


def test_options_that_this_jax_does_not_know_are_left_out(monkeypatch):
    """They are tried on a device of this process; where it has none of these, they are taken as they are."""
    unknown = {"xla_no_such_option": "1"}
    monkeypatch.setattr(compiling, "OPTIONS", {"cpu": unknown})
    found = compiling.compiler_options.__wrapped__
    assert found() == {}
    monkeypatch.setattr(compiling, "devices", lambda: [types.SimpleNamespace(process_index=1, platform="cpu")])
    assert found() == unknown


# --- steps -----------------------------------------------------------------------------------------------------------


def first_step(recipe):
    """What the first training step of a recipe's smoke is made of, as shapes."""
    experiment = small(recipe)
    rows, mesh = model_row_shapes(experiment), MeshShape(data=1).build()
    state, batch = abstract_state(experiment, rows, mesh, 0), example_batch(rows, experiment.batch_size)
    run = jax.eval_shape(lambda: RunConstants(jax.random.key(0), jnp.int32(0)))
    stage = stage_at(experiment.model, 0)
    return experiment.step_spec, mesh, stage, due_at(experiment.model.phases(stage), 0), state, batch, run


@pytest.mark.parametrize("recipe", ["dcgan_mnist", "edm_digits"])
def test_a_step_made_for_a_tpu_is_that_of_a_tpu_and_the_next_one_is_as_before(recipe):
    before = compiling.traced_step(*first_step(recipe))
    with made_for("tpu"):
        there = compiling.traced_step(*first_step(recipe))
    after = compiling.traced_step(*first_step(recipe))
    assert "bf16" in str(there.jaxpr) and "bf16" not in str(before.jaxpr)
    lowered = there.lower(lowering_platforms=("tpu",)).as_text()
    assert "xbf16>" in lowered
    assert str(after.jaxpr) == str(before.jaxpr)
    assert after.lower().as_text() == before.lower().as_text() != lowered


def test_a_compiled_step_is_kept_for_each_platform(monkeypatch):
    monkeypatch.setattr(compiling, "_compile", lambda lowered, during: lowered.as_text())
    compiling.forget()
    step = first_step("dcgan_mnist")
    here = compiling.compiled_step(*step)
    with made_for("tpu"):
        there = compiling.compiled_step(*step)
        assert compiling.compiled_step(*step) is there
    assert compiling.compiled_step(*step) is here and compiling.compilations() == 2
    assert "bf16" in there.result() and "bf16" not in here.result()
    compiling.forget()
