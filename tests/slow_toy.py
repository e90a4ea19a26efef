"""An experiment that takes its time where SLOW says, for tests of what is seen and heard of a run meanwhile.

SLOW: "data" or "compile" for ever, in a call that no signal interrupts; "step" for STEP seconds; "save" for STEP
seconds when the run waits for it.
"""

import ctypes
import dataclasses
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from toys import Regression, ToyData

from imagegen_jax import Experiment, main
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.core.optim import SGD

SLOW, STEP = os.environ["SLOW"], float(os.environ.get("STEP", "1"))


def stuck():
    """Waits for a mutex that this thread holds: unlike a sleep, no signal ends it."""
    system, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    system.pthread_mutex_lock(mutex)
    system.pthread_mutex_lock(mutex)


@dataclasses.dataclass(frozen=True)
class SlowData(ToyData):
    def open(self):
        if SLOW == "data":
            stuck()
        return super().open()


@dataclasses.dataclass(frozen=True)
class SlowSteps(Regression):
    def loss(self, nets, inputs):
        loss, aux = super().loss(nets, inputs)
        zero = jax.pure_callback(_wait, jax.ShapeDtypeStruct((), jnp.float32))
        return loss + zero, aux


def _wait():
    time.sleep(STEP if SLOW == "step" else 0.05)
    return np.zeros((), np.float32)


experiment = Experiment(
    name="slow_toy", model=SlowSteps(), data=SlowData(), optim={"network": SGD(0.1)}, batch_size=8, steps=1_000,
    checkpoint_every=1_000, log_every=1_000, sample_every=0, samples=4,
)  # fmt: skip

if __name__ == "__main__":
    if SLOW == "compile":
        compiling._compile = lambda *arguments: stuck()
    if SLOW == "save":
        wait = Checkpoints.wait
        Checkpoints.wait = lambda self: (time.sleep(STEP), wait(self))
    main(experiment)
