"""An experiment in a user's own file, with a model of its own, for tests of the command line and of many processes."""

from toys import Game, ToyData

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam

experiment = Experiment(
    name="toy", model=Game(), data=ToyData(), optim={"generator": Adam(1e-2), "critic": Adam(1e-2)},
    averages={"ema": HalfLife(1000.0)}, batch_size=16, steps=40, checkpoint_every=10, log_every=5, samples=4,
)  # fmt: skip

smoke = {"steps": 4}

if __name__ == "__main__":
    main(experiment, smoke)
