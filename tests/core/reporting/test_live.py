"""What is seen and heard of a live run: a screen that changes, signals that are answered, work that is kept."""

import os
import re
import signal
import threading
import time
from concurrent.futures import Future

import pytest
from terminal import Terminal
from toys import Game, ToyData

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.platform import signals
from imagegen_jax.core.step import due_steps

pytestmark = pytest.mark.versions

ANSWER = 4.0  # seconds within which a busy test machine has to answer; the rule is 1


def wait_for(condition):
    """Returns when it holds; fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def ended(monkeypatch):
    """What the process would have been ended with; signals are as in a shell, also where the tests run below nohup."""
    found = []
    monkeypatch.setattr(signals, "_end", lambda signum, text: found.append((signum, text)))
    usual = {
        signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL
    }  # fmt: skip
    before = {signum: signal.signal(signum, handler) for signum, handler in usual.items()}
    yield found
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_the_second_is_told_and_only_the_third_interrupt_ends(signum, ended):
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    said = []
    with signals.stopping(None, said.append, lambda: "saving is under way") as asked:
        assert asked(1) == 0
        os.kill(os.getpid(), signum)
        wait_for(lambda: said)
        assert asked(2) == signum
        assert f"{signum.name}: stopping after this step, saving" in said[0] and "number 3 ends at once" in said[0]
        os.kill(os.getpid(), signum)
        wait_for(lambda: len(said) == 2)
        assert "saving is under way" in said[1] and not ended
        os.kill(os.getpid(), signum)
        wait_for(lambda: ended or len(said) == 3)
        assert bool(ended) == (signum == signal.SIGINT)
        assert asked(3) == signum
    assert {kind: signal.getsignal(kind) for kind in before} == before


def test_a_signal_that_the_user_has_switched_off_stays_off(ended):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals.stopping(None, lambda text: None, str) as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert asked(1) == 0 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_is_answered_while_the_main_thread_cannot_be_interrupted():
    said, busy = [], threading.Event()
    with signals.watching(lambda signum: (said.append(signum), busy.set())):
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            sum(range(3 * 10**7)), busy.wait(10)  # one instruction of Python for about a second
        finally:
            signal.signal(signal.SIGINT, before)
    assert said == [signal.SIGINT]


def test_an_interrupted_command_is_ended_where_it_does_not_end_by_itself(ended, monkeypatch):
    monkeypatch.setattr(signals, "GRACE", 0.05)
    with signals.interruptible():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        wait_for(lambda: ended)
    assert ended == [(signal.SIGINT, "interrupted")]
    with pytest.raises(KeyboardInterrupt), signals.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    assert len(ended) == 1  # it cleaned up in time


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_commands_end_by_other_signals_as_by_an_interrupt(ended, monkeypatch, signum):
    monkeypatch.setattr(signals, "GRACE", 0.05)
    with signals.interruptible():
        with pytest.raises(signals.Ended, match=f"ended by {signum.name}") as error:
            os.kill(os.getpid(), signum)
            time.sleep(10)
        assert signals.signal_of(error.value) == signum
        wait_for(lambda: ended)
    assert ended == [(signum, f"ended by {signum.name}")]
    assert signal.getsignal(signum) is signal.SIG_DFL


def toy(workdir, slow, *options, step=1.0):
    return Terminal("tests/slow_toy.py", "--workdir", workdir, *options, SLOW=slow, STEP=str(step))


@pytest.mark.slow
def test_a_start_that_is_ended_leaves_no_folder(tmp_path):
    with toy(tmp_path / "run", "compile") as terminal:
        terminal.read(120, until="training step 1 of 1")
        terminal.interrupt(signal.SIGTERM)
        assert terminal.end(30) == 143
        assert "ended by SIGTERM" in terminal.text and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("slow", ["data", "compile"])
def test_an_interrupt_before_training_ends_with_one_line_at_once(tmp_path, slow):
    with toy(tmp_path / "run", slow) as terminal:
        terminal.read(120, until={"data": "opening the data 0:0", "compile": "training step 1 of 1"}[slow])
        at = terminal.interrupt()
        assert terminal.end(30) == 130
        assert time.monotonic() - at < ANSWER
        assert "interrupted\r\n" in terminal.text and "Traceback" not in terminal.text


@pytest.mark.slow
def test_interrupted_imports_are_one_line(tmp_path):
    (tmp_path / "slow_module.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    with Terminal("-c", "import imagegen_jax, slow_module", PYTHONPATH=f"{os.getcwd()}:{tmp_path}") as terminal:
        terminal.read(120, until="importing\r\n")
        terminal.interrupt()
        assert terminal.end(30) == 130
        assert terminal.text.split("importing\r\n")[1].replace("^C", "").strip("\r\x1b[K\n") == "interrupted"


@pytest.mark.slow
def test_the_screen_lives_through_a_long_step_and_two_interrupts_lose_nothing(tmp_path):
    with toy(tmp_path / "run", "step", step=4.0) as terminal:
        terminal.read(120, until=" of 1,000 (")
        at = terminal.interrupt()
        terminal.read(ANSWER, until="SIGINT: stopping after this step, saving")
        terminal.interrupt()
        terminal.read(ANSWER - (time.monotonic() - at), until="already stopping: step ")
        assert terminal.end(60) == 130
        found = re.search(r"stopped by SIGINT at step (\d+), saved", terminal.text)
        assert found, terminal.text
        assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")] == [found[1]]
        training = terminal.text.split("training begins")[1]
        assert len(set(re.findall(r"  0:\d\d", training))) >= 3, training  # the clock of a step of four seconds
        assert re.search(r"step \d+ of 1,000 .*\d s/step", training)


@pytest.mark.slow
def test_an_interrupt_while_it_saves_does_not_spoil_the_save(tmp_path):
    with toy(tmp_path / "run", "save", step=3.0) as terminal:
        terminal.read(120, until=" of 1,000 (")
        terminal.interrupt()
        terminal.read(60, until="saving step ")
        terminal.interrupt()
        terminal.read(ANSWER, until="already stopping: saving is under way, of step ")
        assert terminal.end(60) == 130
        found = re.search(r"stopped by SIGINT at step (\d+), saved", terminal.text)
        assert found and (tmp_path / "run" / "checkpoints" / found[1]).is_dir()


@pytest.mark.slow
def test_a_closed_terminal_stops_a_run_that_has_saved(tmp_path):
    with toy(tmp_path / "run", "step", step=0.2) as terminal:
        terminal.read(120, until=" of 1,000 (")
        terminal.hang_up()
        terminal.interrupt(signal.SIGHUP)  # the kernel sends it to a session that has a controlling terminal
        assert terminal.process.wait(60) == 129
    assert len(list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))) == 1
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("step", "end", "wanted"),
    [
        (0, 100, {("critic",): 0, ("critic", "generator"): 1, ("critic", "penalty", "generator"): 3}),
        (3, 100, {("critic", "penalty", "generator"): 3, ("critic",): 4, ("critic", "generator"): 5}),
        (0, 2, {("critic",): 0, ("critic", "generator"): 1}),
        (7, 8, {("critic", "penalty", "generator"): 7}),
    ],
)
def test_what_comes_due_before_the_end_is_known_ahead(step, end, wanted):
    found = due_steps(Game(), step, end)
    assert found == wanted and list(found) == list(wanted)  # what is needed first comes first


def test_what_comes_due_is_that_of_one_stage():
    class Staged(Game):
        def stage(self, step):
            return step // 3

    assert due_steps(Staged(), 0, 100) == {("critic",): 0, ("critic", "generator"): 1}
    assert due_steps(Staged(), 3, 100) == {
        ("critic", "penalty", "generator"): 3,
        ("critic",): 4,
        ("critic", "generator"): 5,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "compiled"), [(1, 1), (3, 2), (9, 3)])
def test_all_that_comes_due_is_compiled_ahead_once_and_shown(tmp_path, capsys, steps, compiled):
    experiment = ig.Experiment(
        name="toy", model=Game(), data=ToyData(), optim={name: SGD(0.1 + steps) for name in ("generator", "critic")},
        batch_size=16, steps=steps, samples=4, mesh=MeshShape(data=1),
    )  # fmt: skip
    before = compiling.compilations()
    ig.fit(experiment, tmp_path)
    assert compiling.compilations() - before == compiled
    said = capsys.readouterr().err
    assert [f"compiling training step {n} of {compiled}: critic" in said for n in (1, 2, 3)] == [
        n <= compiled for n in (1, 2, 3)
    ]
    at = said.index(f"compiling training step {compiled} of")
    assert at < said.index(f"step {steps} of {steps}")


def test_what_waits_to_be_compiled_is_dropped_when_a_run_ends(monkeypatch):
    begun, done, waiting = Future(), Future(), Future()
    begun.set_running_or_notify_cancel()
    done.set_result(None)
    monkeypatch.setattr(compiling, "_steps", {"begun": begun, "done": done, "waiting": waiting})
    assert compiling.busy()
    compiling.drop_waiting()
    assert set(compiling._steps) == {"begun", "done"}
    begun.set_result(None)
    assert not compiling.busy()
