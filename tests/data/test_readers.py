"""Who reads a run writes nothing into its folder, waits for nothing, and says in a line what is damaged there."""

import contextlib
import dataclasses
import errno
import gc
import json
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_experiment
from toys import Regression

import imagegen_jax as ig
from imagegen_jax import cli
from imagegen_jax.cli.train import main
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.core.checkpoints.stored import Best, CheckpointError, Stored
from imagegen_jax.core.ema import PowerFunction
from imagegen_jax.core.files.claim import LiveRunError, Lock, RunFolderError, claimed
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.reporting.not_finite import NonFiniteError
from imagegen_jax.core.run_folder import check_not_lost

pytestmark = pytest.mark.versions

EXPERIMENT = dataclasses.replace(
    toy_experiment.experiment, averages={"ema": PowerFunction(0.05)}, steps=4, checkpoint_every=2, snapshots=2,
    sample_every=0, mesh=ig.core.arrays.shard.MeshShape(data=1),
)  # fmt: skip
MODULES = ("--module", "toy_experiment", "--module", "toys")
LIKE = {"w": jax.ShapeDtypeStruct((4,), jnp.float32)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, in which what another process is writing lies half done."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    ig.fit(EXPERIMENT, folder, quiet=True)
    for name in ("checkpoints", "snapshots"):
        (folder / name / "6.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def seen(folder):
    """What a folder looks like: of each file and folder its name, inode, size and time of change."""
    stats = {path.relative_to(folder): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {path: (s.st_ino, s.st_size, s.st_mtime_ns, s.st_mode) for path, s in stats.items()}


def imagegen(*words):
    """The exit code of the command line, called here."""
    try:
        cli.main([str(word) for word in words])
    except SystemExit as end:
        return end.code or 0
    return 0


def command(*words):
    return lambda folder, out: imagegen(*[{"RUN": folder, "OUT": out}.get(word, word) for word in words])


READERS = {
    "load": lambda folder, out: ig.load(folder, experiment=EXPERIMENT).sample(4),
    "load of a step": lambda folder, out: ig.load(folder, experiment=EXPERIMENT, step=2),
    "load_network": lambda folder, out: ig.load(folder, experiment=EXPERIMENT).nets["generator"],
    "reconstruct": lambda folder, out: ig.load(folder, experiment=EXPERIMENT).reconstruct(0.07),
    "sample": command("sample", "RUN", "--n", "4", "--out", "OUT", *MODULES),
    "info": command("info", "RUN", *MODULES),
    "report": command("report", "RUN", "--out", "OUT"),
    "a checkpoint's writer before it writes": lambda folder, out: Checkpoints(folder / "checkpoints").steps(),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_leaves_a_run_as_it_is(finished, tmp_path, name):
    before = seen(finished)
    assert not isinstance(code := READERS[name](finished, tmp_path / "out.png"), int) or code == 0
    assert seen(finished) == before


def test_a_reader_makes_no_folders_where_there_are_none(tmp_path):
    assert Stored(tmp_path / "checkpoints", Best("FID", False)).best_step() is None
    assert Stored(tmp_path / "checkpoints").restore(lambda step: LIKE) is None
    assert not list(tmp_path.iterdir())


def saved(folder, steps, keep=None):
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, {"w": jnp.full(4, float(step))})
    checkpoints.wait()
    return checkpoints


def test_a_checkpoint_that_is_deleted_while_it_is_read_is_no_damage(tmp_path, monkeypatch, capfd):
    """The run that writes keeps the newest one: what the reader began to read goes, and another is there."""
    writer = saved(tmp_path / "c", [1], keep=1)
    read = Stored.read

    def slowly(self, step, like):
        if step < 3:
            writer.save(step + 1, {"w": jnp.full(4, step + 1.0)})
            writer.wait()
            assert self.steps() == [step + 1]
        return read(self, step, like)

    monkeypatch.setattr(Stored, "read", slowly)
    found = Stored(tmp_path / "c").restore(lambda step: LIKE)
    assert found.step == 3 and float(found.tree["w"][0]) == 3.0 and not found.damaged
    assert not capfd.readouterr().err

    def too_late(self, step, like):
        shutil.rmtree(self.folder / str(step))
        return read(self, step, like)

    monkeypatch.setattr(Stored, "read", too_late)
    assert Stored(tmp_path / "c").restore(lambda step: LIKE, steps=[3]) is None


@pytest.mark.slow
def test_a_run_that_is_read_all_the_time_equals_one_that_is_not(tmp_path, root):
    """It writes a checkpoint each step and keeps one; two threads load it, sample it and list it meanwhile."""
    value = dataclasses.replace(EXPERIMENT, steps=60, checkpoint_every=1, keep_checkpoints=1, averages={})
    trainer = subprocess.Popen(
        [sys.executable, "-c", "import sys; from test_readers import train_slowly; train_slowly(sys.argv[1])",
         str(tmp_path / "read")], cwd=root / "tests", stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, root / "tests", os.path.dirname(__file__))))},
    )  # fmt: skip
    reads, failures = [], []

    def reader():
        while trainer.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                if Stored(tmp_path / "read" / "checkpoints").steps():
                    try:
                        reads.append(ig.load(tmp_path / "read", experiment=value).sample(2).shape)
                    except Exception as error:
                        failures.append(error)
            time.sleep(0.02)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    _, said = trainer.communicate(timeout=200)
    for thread in threads:
        thread.join()
    assert trainer.returncode == 0, said
    assert not failures and len(reads) > 10
    read, alone = ig.load(tmp_path / "read", experiment=value), ig.fit(value, tmp_path / "alone", quiet=True)
    for a, b in zip(jax.tree.leaves(read.state), jax.tree.leaves(alone.state), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def train_slowly(folder):
    """The run of the test above, in a process of its own."""
    ig.fit(
        dataclasses.replace(EXPERIMENT, steps=60, checkpoint_every=1, keep_checkpoints=1, averages={}), folder,
        quiet=True,
    )  # fmt: skip


# --- starts that are refused -----------------------------------------------------------------------------------------


REFUSED = {
    "data": lambda: dataclasses.replace(EXPERIMENT, data=ig.data.Folder("/nowhere")),
    "batch_size": lambda: dataclasses.replace(EXPERIMENT, batch_size=15, microbatches=2),
    "optimizer": lambda: dataclasses.replace(EXPERIMENT, optim={"generator": SGD(0.1)}),
    "pretrained": lambda: dataclasses.replace(EXPERIMENT, pretrained={"generator": "/nowhere/run"}),
    "network": lambda: dataclasses.replace(EXPERIMENT, pretrained={"nobody": "/nowhere.npz"}),
    "evaluation": lambda: dataclasses.replace(EXPERIMENT, evaluation=Broken()),
}


@dataclasses.dataclass(frozen=True)
class Broken:
    """An evaluation that cannot be."""

    every: int = 1

    def open(self, experiment, workdir, quiet):
        raise ValueError("no extractor")


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_a_start_that_is_refused_leaves_nothing(finished, tmp_path, name, there):
    """Neither folders where there were none, nor another file in a run's folder that was there."""
    root = tmp_path / "runs"
    if there:
        shutil.copytree(finished, root / "deep" / "a")
    before = seen(root) if there else {}
    with pytest.raises((ValueError, OSError, RunFolderError)):
        ig.fit(REFUSED[name](), root / "deep" / "a", resume_with_changes=True, quiet=True)
    after = seen(root) if there else {}
    assert after.keys() == before.keys() and there == root.exists()
    files = [path for path in after if (root / path).is_file() and path.name != "lock"]  # that says who had it last
    assert [after[path] for path in files] == [before[path] for path in files]


def test_a_start_in_a_folder_of_another_run_changes_nothing_in_it(run, capfd):
    """Neither its report."""
    holder = Lock(run)
    before = seen(run)
    with pytest.raises(SystemExit):
        main(EXPERIMENT, arguments=["--workdir", str(run)], prog="train")
    holder.release()
    assert seen(run) == before
    assert "a live run" in capfd.readouterr().err


def test_a_command_with_a_bad_option_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in ("--steps=no", "--steps=-1", "--nope"):
        with pytest.raises(SystemExit):
            main(EXPERIMENT, arguments=[word], prog="train")
    assert not list(tmp_path.iterdir())


def test_a_lock_is_of_the_file_that_is_there(tmp_path):
    """A refused start deletes the file that it made: who had opened that one takes the next."""
    with claimed(tmp_path), pytest.raises(LiveRunError):
        Lock(tmp_path)
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path) as begin:
        begin()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(("owner", "name"), [(pathlib.Path, "write_text"), (socket, "gethostname")])
def test_a_start_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch, owner, name):
    """Whether the folder's probe does not fit or the lock's own text, which tells of the host."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(RunFolderError, match="No space left on device; give another"), claimed(tmp_path / "a"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_that_a_full_disk_does_not_take_leaves_nothing(tmp_path, capfd):
    """Neither its file and folder, nor a word of Python's when the file is closed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(RunFolderError, match="cannot write to the run folder") as raised, claimed(tmp_path / "run"):
            pass
        del raised
        gc.collect()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("gone", ["deleted", "not mounted"])
def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew(run, tmp_path, gone):
    """Nothing in its folder changes; a run that may have been killed before its first one was complete is begun."""
    shutil.rmtree(run / "checkpoints")
    if gone == "not mounted":
        (run / "checkpoints").symlink_to(tmp_path / "disk" / "checkpoints")
    log = run / "metrics.jsonl"
    log.write_text('{"step": 3}\n{"step": 4}\n')
    check_not_lost(run)
    log.write_text('{"step": 3}\n{"step": 5}\n{"step": 6')
    files = {path: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != "lock"}
    with pytest.raises(RunFolderError, match="goes on to step 5 and there was one each 2: bring them back"):
        ig.fit(EXPERIMENT, run, quiet=True)
    assert {path: path.read_bytes() for path in files} == files and not (tmp_path / "disk").exists()


# --- damage ----------------------------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(b ^ 0xFF for b in data[middle : middle + 8])
    path.write_bytes(data)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = [cut, flip, pathlib.Path.unlink, lambda path: path.write_bytes(b""), replace_by_folder]
PARTS = ["fingerprint/metadata", "state/_METADATA", "state/manifest.ocdbt", "state/array_metadatas/process_0",
         "state/d/*", "_CHECKPOINT_METADATA", "state/_sharding"]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_file_of_a_checkpoint_is_one_line(tmp_path, part, capfd):
    """It is said of the right step, and the one before is used; or it is a file that nothing is read from."""
    saved(tmp_path / "c", [1, 2])
    whole = shutil.move(tmp_path / "c" / "2", tmp_path / "whole")
    for damage in DAMAGE:
        shutil.copytree(whole, tmp_path / "c" / "2")
        for path in (tmp_path / "c" / "2").glob(part):
            damage(path)
        found = Stored(tmp_path / "c").restore(lambda step: LIKE)
        said = capfd.readouterr().err.splitlines()
        assert float(found.tree["w"][0]) == found.step
        assert len(said) == (2 if found.step == 1 else 0) and all(len(line) < 600 for line in said)
        assert found.step == 2 or f"{tmp_path / 'c' / '2'} is damaged" in said[0]
        shutil.rmtree(tmp_path / "c" / "2")


@pytest.mark.slow
def test_a_run_whose_checkpoints_are_all_damaged_is_a_message_of_a_few_lines(run, root):
    for path in run.glob("checkpoints/*/state/manifest.ocdbt"):
        cut(path)
    train = "from test_readers import EXPERIMENT, main; main(EXPERIMENT)"
    for words in (["-m", "imagegen_jax.cli", "sample", str(run), *MODULES], ["-c", train, "--workdir", str(run)]):
        done = subprocess.run(
            [sys.executable, *words], cwd=root / "tests", capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, os.path.dirname(__file__))))},
        )  # fmt: skip
        assert done.returncode == 1 and len(done.stderr.splitlines()) < 8, done.stderr
        assert "checkpoints/4 is damaged" in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_a_message_of_a_few_lines(tmp_path, root):
    """Of a save in the background too, which fails while nobody waits for it; a limit of file sizes stands for it."""
    program = f"""
import pathlib, resource, signal, time
import jax
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.cli.common.errors import readable_errors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with readable_errors():
    checkpoints = Checkpoints(pathlib.Path({str(tmp_path / "c")!r}))
    tree = {{str(i): jax.random.normal(jax.random.key(i), (100, 100)) for i in range(20)}}
    checkpoints.save(1, tree)
    checkpoints.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    checkpoints.save(2, tree)
    time.sleep(3)
    checkpoints.save(3, tree)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    said = done.stderr.splitlines()
    assert done.returncode == 1 and len(said) < 6, done.stderr
    assert "the checkpoint of step 2 could not be written" in said[0] and "of step 1" in said[1]


# --- numbers that are not finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_checkpoint_is_written_of_what_is_not_finite(tmp_path, bad, dtype):
    tree = {"n": jnp.int32(3), "net": {"w": jnp.ones(4, dtype), "v": jnp.ones(4, dtype).at[2].set(bad)}}
    checkpoints = Checkpoints(tmp_path / "c")
    with pytest.raises(NonFiniteError, match="of step 7 was not written: net/v hold NaN"):
        checkpoints.save(7, tree)
    checkpoints.close()
    assert not list((tmp_path / "c").glob("[0-9]*"))


@dataclasses.dataclass(frozen=True)
class Overflowing(Regression):
    """Its loss and the norm of its gradient are numbers, and the last update leaves them."""

    def loss(self, nets, inputs):
        _, aux = super().loss(nets, inputs)
        return jnp.where(inputs.step == 3, 1e18, 0.0) * nets["network"]["params"]["Dense_0"]["kernel"][0, 0], aux


def test_a_run_whose_loss_is_finite_and_whose_weights_are_not_stops_at_its_save(tmp_path):
    value = dataclasses.replace(
        EXPERIMENT, model=Overflowing(), optim={"network": SGD(1e25)}, averages={}, checkpoint_every=3
    )
    with pytest.raises(NonFiniteError, match="of step 4 was not written: params/network/Dense_0/kernel.* of step 3"):
        ig.fit(value, tmp_path, quiet=True)
    assert Stored(tmp_path / "checkpoints").steps() == [3]


def test_weights_that_are_not_finite_draw_nothing(run):
    """As an earlier version could save them: the network is named, and what can be drawn from instead."""
    loaded = ig.load(run, experiment=EXPERIMENT)
    spoilt = jax.tree.map(lambda x: x.at[0].set(jnp.nan), loaded.state.ema["generator"]["ema"])
    ema = {**loaded.state.ema, "generator": {"ema": spoilt}}
    bad = dataclasses.replace(loaded, state=loaded.state.replace(ema=ema))
    with pytest.raises(NonFiniteError, match=r"at step 4: generator/params/.*hold NaN.*--average.*2, 4"):
        bad.sample(4)
    assert bad.with_average("none").sample(4).shape == (4, 2, 2, 1)
    ig.save_network(run / "bad.npz", spoilt)
    with pytest.raises(NonFiniteError, match="bad.npz"):
        ig.load_network(run / "bad.npz", "generator")


# --- JSON files ------------------------------------------------------------------------------------------------------

FILES = ("experiment.json", "data.json", "best.json", "parameters.json", "environment.json", "evaluations.jsonl",
         "changes.jsonl", "metrics.jsonl", "origin.json")  # fmt: skip
FORMS = ("", "[]", "null", "3", '"x"', "{}", "[" * 100_000, "[[]]\n[]\n3\n", b"\xff\xfe\x00{", "cut", "null fields",
         "number fields", "list fields")  # fmt: skip
FIELDS = {"null fields": None, "number fields": 7, "list fields": [1, {"a": 2}]}


def written(path, form):
    """Gives a file another form than a run does."""
    if isinstance(form, bytes):
        path.write_bytes(form)
        return
    text = path.read_text() if path.exists() else '{"a": 1}'
    if form == "cut":
        form = text[: len(text) // 2]
    elif form in FIELDS:
        first = text.splitlines()[0] if path.suffix == ".jsonl" else text
        form = json.dumps(dict.fromkeys(json.loads(first), FIELDS[form]))
    path.write_text(form)


def assert_one_message(code, said):
    assert code in (0, 1)
    if code:
        assert said.startswith("error: ") and len(said.splitlines()) < 7, said


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_form_is_one_message(run, tmp_path, name, capfd):
    (run / "best.json").write_text('{"name": "FID", "higher": false}')
    whole = (run / name).read_bytes() if (run / name).exists() else None
    for form in FORMS:
        written(run / name, form)
        for words in (["info", run, *MODULES], ["report", run, "--out", tmp_path / "r.html"]):
            assert_one_message(imagegen(*words), capfd.readouterr().err)
        if name in ("experiment.json", "data.json", "best.json"):  # all that a load reads
            try:
                ig.load(run, ["toy_experiment", "toys"], step="best")
            except (RunFolderError, CheckpointError) as error:
                assert len(str(error).splitlines()) < 5 and str(run) in str(error)
        (run / name).unlink() if whole is None else (run / name).write_bytes(whole)


CHANGES = {
    "a list": (lambda t: [t], "no object"),
    "another module": (lambda t: t | {"model": {"class": "imagegen_jax.gone:Model"}}, "imagegen_jax.gone.*imported"),
    "another class": (lambda t: t | {"model": {"class": "toys:Gone"}}, "toys:Gone.*not there"),
    "no class": (lambda t: t | {"class": 3}, "no object"),
    "no experiment": (lambda t: t["model"], "not an Experiment"),
    "a field more": (lambda t: t | {"model": t["model"] | {"depth": 3}}, "no field.*depth"),
    "a field of another type": (lambda t: t | {"batch_size": "many", "steps": None}, "cannot be read"),
    "data that are none": (lambda t: t | {"data": -1}, "data=-1"),
    "a model that is none": (lambda t: t | {"model": []}, "no model"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_experiment_that_cannot_be_rebuilt_says_why(run, name):
    change, said = CHANGES[name]
    path = run / "experiment.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RunFolderError, match=f"experiment.json.*{said}"):
        ig.load(run, ["toy_experiment", "toys"])
