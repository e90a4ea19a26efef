"""PixelCNN++ on CIFAR-10 (Salimans et al. 2017, arXiv 1701.05517), 32x32, without classes and augmentation.

    imagegen data prepare cifar10
    python -m experiments.pixelcnnpp_cifar10 --workdir runs/pixelcnnpp_cifar10
    python benchmarks/pixel_nll.py runs/pixelcnnpp_cifar10

The authors' recipe (train.py of openai/pixel-cnn): 5 blocks of 160 filters at each of three resolutions, 10 logistics,
dropout 0.5, batches of 16 on each of 8 GPUs, Adam with moments of 0.95 and 0.9995 and a rate of 1e-3 that falls by
0.999995 a step, weights averaged with a decay of 0.9995, weights normalised by the first batch.

Cost: made for a rack of accelerators: the authors took about 5 days on 8 TITAN X. Expected: 53,659,080 parameters;
2.92 bits per dimension of the test images, as published.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoregressive.pixelcnn import PixelCNN
from imagegen_jax.autoregressive.residual import ResidualPixelCNN
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam, ExponentialDecay
from imagegen_jax.data import TFDS
from imagegen_jax.nn.distributions.logistic_mixture import LogisticMixture
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="pixelcnnpp_cifar10",
    model=PixelCNN(image_shape=(32, 32, 3), network=ResidualPixelCNN(), distribution=LogisticMixture(10)),
    data=TFDS("cifar10", split="train"),
    optim={"network": Adam(ExponentialDecay(1e-3, rate=0.999995), b1=0.95, b2=0.9995)},
    averages={"ema": FixedDecay(0.9995)},
    batch_size=128,
    steps=400_000,
    log_every=100,
    sample_every=20_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(8, 3),
    "model.network.blocks": 1,
    "model.network.width": 4,
    "model.network.levels": 2,
    "model.distribution.components": 2,
    "optim.network.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
