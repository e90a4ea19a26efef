"""Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328) on scikit-learn's handwritten digits, with classes.

    python -m experiments.pixelcnn_digits --workdir runs/pixelcnn_digits
    python benchmarks/pixel_nll.py runs/pixelcnn_digits

A narrow network with a probability for each of 256 levels: digits use 17 of these, which it learns within the first
steps. It sees 1,500 digits only, so dropout and an average of the weights keep it from learning them by heart.

Cost: about 5 minutes on 2 CPU cores with much other work beside it. Expected: 1.72 bits per dimension of the test
digits, given their classes (standard error 0.02; 1.56 of those it was trained on), and 95.8 % of 500 samples of the
class asked for. There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoregressive.gated import GatedPixelCNN
from imagegen_jax.autoregressive.pixelcnn import PixelCNN
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="pixelcnn_digits",
    model=PixelCNN(
        image_shape=(8, 8, 1),
        network=GatedPixelCNN(width=32, layers=5, window=3, head_width=64, dropout=0.2),
        num_classes=10,
    ),
    data=Digits(split="train"),
    optim={"network": Adam(CosineDecay(3e-3, warmup=50))},
    averages={"ema": HalfLife(images=5_000)},
    clip_norm=1.0,
    batch_size=64,
    steps=1_200,
    log_every=50,
    sample_every=600,
    samples=100,
    checkpoint_every=300,
)

smoke = {
    **TINY,
    "model.network.width": 8,
    "model.network.layers": 2,
    "model.network.window": 3,
    "model.network.head_width": 8,
    "optim.network.lr": 1e-3,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
