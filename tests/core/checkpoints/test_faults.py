"""Failing well: signals, kills, damage, locks, changed experiments, numbers that are not finite, full disks."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Game, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.core.checkpoints.fingerprint import _program, fingerprint, prints
from imagegen_jax.core.checkpoints.stored import CheckpointError, Stored
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.model import Aux
from imagegen_jax.core.optim import SGD, Adam, CosineDecay
from imagegen_jax.core.reporting.not_finite import NonFiniteError

pytestmark = pytest.mark.versions

EXPERIMENT = ig.Experiment(
    name="toy", model=Game(), data=ToyData(), optim={"generator": Adam(1e-2), "critic": Adam(1e-2)},
    averages={"ema": HalfLife(1000.0)}, batch_size=16, steps=12, checkpoint_every=4, log_every=3, samples=4,
    mesh=MeshShape(data=1),
)  # fmt: skip


def change(experiment, **fields):
    return dataclasses.replace(experiment, **fields)


def assert_same(one, other):
    for (path, a), (_, b) in zip(jax.tree.leaves_with_path(one), jax.tree.leaves_with_path(other), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return ig.fit(EXPERIMENT, tmp_path_factory.mktemp("whole"), quiet=True)


@pytest.fixture
def at_eight(tmp_path):
    """A folder whose run ended at step 8, as a shorter run leaves it."""
    ig.fit(change(EXPERIMENT, steps=8), tmp_path, quiet=True)
    return tmp_path


def damage(folder, step):
    """Flips bits in the middle of every data file of a checkpoint."""
    for path in (folder / "checkpoints" / str(step) / "state").rglob("d/*"):
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 8] = bytes(b ^ 0xFF for b in data[middle : middle + 8])
        path.write_bytes(data)


def test_a_resumed_run_equals_the_whole_one(at_eight, whole):
    resumed = ig.fit(EXPERIMENT, at_eight, resume_with_changes=True, quiet=True)
    assert_same(resumed.state, whole.state)
    steps = [json.loads(line)["step"] for line in (at_eight / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[0] == 3 and steps[-1] == 12


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(at_eight, whole, capfd):
    damage(at_eight, 8)
    assert ig.load(at_eight, experiment=EXPERIMENT).step == 4
    assert not (at_eight / "damaged").exists()  # who only reads a run moves nothing in it
    resumed = ig.fit(EXPERIMENT, at_eight, resume_with_changes=True, quiet=True)
    said = capfd.readouterr().err
    assert "checkpoints/8 is damaged" in said and "of step 4" in said
    assert_same(resumed.state, whole.state)
    assert (at_eight / "damaged" / "8").is_dir()


def test_a_checkpoint_with_one_changed_bit_is_refused(tmp_path):
    """Also a bit that decompression lets through: the fingerprint of the arrays is compared."""
    checkpoints = Checkpoints(tmp_path / "c")
    state = {"w": jnp.arange(1000.0)}
    checkpoints.save(1, state)
    checkpoints.wait()
    checkpoints.save(1, {"w": jnp.zeros(1000)})  # does nothing: this step is there already
    like = {"w": jax.ShapeDtypeStruct((1000,), jnp.float32)}
    assert_same(Stored(tmp_path / "c").read(1, like), state)
    path = tmp_path / "c" / "1" / "fingerprint" / "metadata"
    path.write_text(json.dumps([int(fingerprint(state)[0]) ^ 1]))
    with pytest.raises(ValueError, match="differ from what was saved.*'w'"):
        Stored(tmp_path / "c").read(1, like)


def test_a_fingerprint_sees_every_bit_and_no_sharding():
    x = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    whole = int(fingerprint({"x": jnp.asarray(x)})[0])
    assert int(fingerprint({"x": jnp.asarray(x[::-1])})[0]) != whole  # the order of the words counts too
    mesh = MeshShape(1, 8).build()
    sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("fsdp")))
    assert int(fingerprint({"x": sharded})[0]) == whole
    for bit in range(32):
        flipped = x.copy()
        flipped.view(np.uint32)[17, 3] ^= np.uint32(1 << bit)
        assert int(fingerprint({"x": jnp.asarray(flipped)})[0]) != whole


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint8", "bool"])
def test_a_fingerprint_by_numpy_is_the_devices_own(dtype):
    """Other platforms compute it where the arrays live; a run may move between them."""
    x = np.random.default_rng(0).standard_normal((3, 2**19 + 1)).astype(jnp.dtype(dtype))
    tree = jax.device_put({"x": x, "empty": x[:0], "scalar": x[0, 0]})
    tree["sharded"] = jax.device_put(x[:, :8], sharded_by_eight())
    for found, wanted in zip(prints(tree), _program()(jax.tree.leaves(tree)), strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert isinstance(found, np.ndarray) and found.dtype == wanted.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        spoilt = x.copy()
        spoilt[2, -1] = np.nan
        assert prints(jax.device_put({"a": x, "spoilt": spoilt})).finite.tolist() == [True, False]


def sharded_by_eight():
    return jax.NamedSharding(MeshShape(1, 8).build(), jax.P(None, "fsdp"))


def test_all_checkpoints_damaged_is_an_error_and_nothing_is_lost(at_eight):
    for step in (4, 8):
        damage(at_eight, step)
    with pytest.raises(CheckpointError, match="checkpoints/8 is damaged.*\n.*checkpoints/4 is damaged.*\nnone is left"):
        ig.fit(EXPERIMENT, at_eight, resume_with_changes=True, quiet=True)
    assert {p.name for p in (at_eight / "checkpoints").iterdir()} >= {"4", "8"}


def test_a_run_of_a_version_with_fewer_fields_goes_on(at_eight, whole):
    path = at_eight / "experiment.json"
    stored = json.loads(path.read_text())
    del stored["evaluation"], stored["model"]["penalty_every"], stored["averages"]["ema"]["ramp"]
    path.write_text(json.dumps(stored | {"steps": 12}))
    assert_same(ig.fit(EXPERIMENT, at_eight, quiet=True).state, whole.state)
    assert "penalty_every" in json.loads(path.read_text())["model"]


def test_a_changed_experiment_is_refused_by_field(at_eight):
    changed = change(EXPERIMENT, steps=8, seed=3, optim={"generator": Adam(2e-2), "critic": Adam(1e-2)})
    with pytest.raises(RunFolderError) as error:
        ig.fit(changed, at_eight, quiet=True)
    message = str(error.value)
    assert "seed: 0 there, 3 now" in message and "optim.generator.lr: 0.01 there, 0.02 now" in message
    assert "--workdir" in message
    with pytest.raises(RunFolderError, match="seed cannot change"):
        ig.fit(changed, at_eight, resume_with_changes=True, quiet=True)
    for field, fixed in (("batch_size", {"batch_size": 32}), ("model.penalty_every", {"model": Game(penalty_every=2)})):
        with pytest.raises(RunFolderError, match=rf"\({field} cannot change"):
            ig.fit(change(EXPERIMENT, **fixed), at_eight, resume_with_changes=True, quiet=True)
    with pytest.raises(RunFolderError, match="--resume-with-changes"):
        ig.fit(EXPERIMENT, at_eight, quiet=True)


@pytest.mark.slow
def test_another_kind_of_optimizer_is_refused_another_schedule_is_not(at_eight):
    other = change(EXPERIMENT, optim={"generator": SGD(1e-2), "critic": Adam(1e-2)})
    with pytest.raises(RunFolderError, match=r"optim\.generator\.class"):
        ig.fit(other, at_eight, resume_with_changes=True, quiet=True)
    scheduled = change(EXPERIMENT, optim={"generator": Adam(CosineDecay(1e-2)), "critic": Adam(1e-2)}, clip_norm=1.0)
    assert ig.fit(scheduled, at_eight, resume_with_changes=True, quiet=True).step == 12
    assert "CosineDecay" in (at_eight / "changes.jsonl").read_text()


@pytest.mark.slow
def test_a_second_live_run_is_refused_and_a_kill_frees_the_folder(tmp_path):
    ig.fit(change(EXPERIMENT, steps=1), tmp_path, quiet=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import pathlib, time
            from imagegen_jax.core.files.claim import Lock
            lock = Lock(pathlib.Path({str(tmp_path)!r}))
            print("held", flush=True)
            time.sleep(600)
        """)], stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=f"process {holder.pid}"):
            ig.fit(change(EXPERIMENT, steps=1), tmp_path, quiet=True)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert ig.fit(change(EXPERIMENT, steps=1), tmp_path, quiet=True).step == 1


@dataclasses.dataclass(frozen=True)
class Exploding(Regression):
    """Its loss is not a number in the eleventh step."""

    def loss(self, nets, inputs):
        loss, aux = super().loss(nets, inputs)
        return jnp.where(inputs.step == 10, jnp.nan, 1.0) * loss, aux


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path):
    value = change(EXPERIMENT, model=Exploding(), optim={"network": SGD(0.1)}, steps=40)
    with pytest.raises(NonFiniteError, match=r"'regress'.* at step 11, .*steps 10 to 12"):
        ig.fit(value, tmp_path, quiet=True)
    run = ig.load(tmp_path, experiment=value)
    assert run.step == 8
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.state.params))


@dataclasses.dataclass(frozen=True)
class Kinked(Regression):
    """From the second step on, its loss is finite and its gradient is not; one of its metrics never is."""

    def loss(self, nets, inputs):
        loss, _ = super().loss(nets, inputs)
        kernel = nets["network"]["params"]["Dense_0"]["kernel"]
        zero = jnp.sqrt(jnp.where(inputs.step == 0, 1.0, 0.0) * jnp.sum(kernel**2))
        return loss + zero, Aux({"odd": jnp.float32(jnp.nan)})


def test_gradients_are_checked_and_other_metrics_are_not(tmp_path):
    value = change(EXPERIMENT, model=Kinked(), optim={"network": SGD(0.1)}, steps=1)
    assert ig.fit(value, tmp_path, quiet=True).step == 1
    with pytest.raises(NonFiniteError, match=r"grad_norm of phase 'regress' .* at step 2"):
        ig.fit(change(value, steps=2), tmp_path, resume_with_changes=True, quiet=True)


def test_the_check_precedes_every_save(tmp_path):
    value = change(
        EXPERIMENT, model=Exploding(), optim={"network": SGD(0.1)}, steps=40, checkpoint_every=11, log_every=99
    )
    with pytest.raises(NonFiniteError):
        ig.fit(value, tmp_path, quiet=True)
    assert not any((tmp_path / "checkpoints").glob("[0-9]*"))


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_next_step_and_leaves_with_its_code(tmp_path, signum, whole):
    program = textwrap.dedent("""
        import dataclasses, sys
        sys.path[:0] = ["tests", "tests/core/checkpoints"]
        from test_faults import EXPERIMENT
        from imagegen_jax import main
        main(dataclasses.replace(EXPERIMENT, steps=1_000_000, checkpoint_every=10**6, sample_every=0, log_every=50))
    """)
    run = subprocess.Popen(
        [sys.executable, "-c", program, "--workdir", str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signum)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + signum, said
    assert f"stopped by {signum.name} at step" in said and "saved" in said
    step = int(said.split("at step ")[1].split(",  saved")[0].split(", saved")[0].replace(",", ""))
    assert [p.name for p in (tmp_path / "checkpoints").glob("[0-9]*")] == [str(step)]


def test_an_unwritable_folder_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot write to the run folder"):
        ig.fit(EXPERIMENT, tmp_path / "file" / "run", quiet=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_is_an_error_and_the_last_checkpoint_stays(tmp_path):
    """A file-size limit stands in for the full disk: the write of the second checkpoint fails in the middle."""
    program = textwrap.dedent("""
        import dataclasses, pathlib, resource, signal, sys
        sys.path[:0] = ["tests", "tests/core/checkpoints"]
        import imagegen_jax as ig
        from imagegen_jax.core.checkpoints.stored import CheckpointError
        from test_faults import EXPERIMENT
        folder = sys.argv[1]
        ig.fit(dataclasses.replace(EXPERIMENT, steps=4), folder, quiet=True)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        largest = max(p.stat().st_size for p in pathlib.Path(folder, "checkpoints").rglob("*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, largest // 2))
        try:
            ig.fit(EXPERIMENT, folder, resume_with_changes=True, quiet=True)
        except (CheckpointError, OSError, ig.core.files.claim.RunFolderError) as error:
            print(type(error).__name__, error)
    """)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert "could not be written" in done.stdout, done.stdout + done.stderr
    assert ig.load(tmp_path, experiment=EXPERIMENT).step == 4
    resumed = ig.fit(EXPERIMENT, tmp_path, resume_with_changes=True, quiet=True)
    assert resumed.step == 12


def test_training_in_a_thread_leaves_signals_alone(tmp_path):
    """As in some notebooks: handlers can only be set in the main thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(ig.fit(EXPERIMENT, tmp_path, quiet=True)))
    thread.start()
    thread.join()
    assert found[0].step == 12


@pytest.mark.slow
def test_kills_at_random_moments_change_no_bit(root):
    done = subprocess.run(
        [sys.executable, "benchmarks/kill_and_resume.py", "--kills", "3"], cwd=root, capture_output=True, text=True,
        env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["differing_arrays"] == []
