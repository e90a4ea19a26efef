"""Auto-binomial Markov random field (Cross & Jain 1983, doi:10.1109/TPAMI.1983.4767341) on handwritten digits.

    python -m experiments.markov_field_digits --workdir runs/markov_field_digits

Each pixel by its neighbours, drawn by Gibbs sampling: the texture model of its time. Here each place and class has a
field of its own, without which no digit would be seen. It needs no download.

Cost: 10 seconds of one CPU core. Expected: 1.77 nats a site by the pseudo-likelihood of training batches at the end,
3.33 after 25 steps; zeros and ones can be read, most others not. There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.early.markov_field import MarkovField
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="markov_field_digits",
    model=MarkovField(image_shape=(8, 8, 1), levels=17, num_classes=10),
    data=Digits(split="train"),
    optim={"network": Adam(CosineDecay(1e-2))},
    batch_size=100,
    steps=300,
    log_every=25,
    sample_every=150,
    samples=100,
    checkpoint_every=150,
)

smoke = {**TINY, "model.levels": 4, "model.radius": 1, "model.sweeps": 2, "samples": 10}

if __name__ == "__main__":
    main(experiment, smoke)
