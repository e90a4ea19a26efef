"""Mixture of factor analysers (Richardson & Weiss 2018, arXiv 1805.12462) on scikit-learn's handwritten digits.

    python -m experiments.factor_mixture_digits --workdir runs/factor_mixture_digits

Gaussians of whole images: what was known before neural networks, under the same commands. Means begin as images of the
first batch. It needs no download.

Cost: 10 seconds of one CPU core. Expected: 5.70 bits per dimension of training batches, as a density; most digits can
be read, some of another class than asked for. There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.early.factor_mixture import FactorMixture
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="factor_mixture_digits",
    model=FactorMixture(image_shape=(8, 8, 1), components=60, factors=4, num_classes=10),
    data=Digits(split="train"),
    optim={"network": Adam(CosineDecay(2e-2))},
    batch_size=100,
    steps=400,
    log_every=50,
    sample_every=200,
    samples=100,
    checkpoint_every=200,
)

smoke = {**TINY, "model.components": 4, "model.factors": 2, "samples": 10}

if __name__ == "__main__":
    main(experiment, smoke)
