"""Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328) on MNIST, with classes.

    imagegen data prepare mnist
    python -m experiments.pixelcnn_mnist --workdir runs/pixelcnn_mnist
    python benchmarks/pixel_nll.py runs/pixelcnn_mnist

A network that two CPU cores train in minutes: the paper's for 32x32 images has 20 layers of 128 channels. With six
layers of windows of 5 a pixel sees 12 rows up, and 12 columns to both sides.

Cost: 8 minutes on 2 CPU cores with other work beside it. Expected: 1.101 bits per dimension of test images (standard
error 0.003), and of training images; strokes are right, and about half of the digits. There is no published score for
this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoregressive.gated import GatedPixelCNN
from imagegen_jax.autoregressive.pixelcnn import PixelCNN
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import TFDS
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="pixelcnn_mnist",
    model=PixelCNN(
        image_shape=(28, 28, 1),
        network=GatedPixelCNN(width=32, layers=6, window=5, head_width=64),
        num_classes=10,
    ),
    data=TFDS("mnist", split="train"),
    optim={"network": Adam(CosineDecay(3e-3, warmup=100))},
    averages={"ema": HalfLife(images=2_000)},
    clip_norm=1.0,
    batch_size=32,
    steps=1_500,
    log_every=50,
    sample_every=500,
    samples=100,
    checkpoint_every=250,
)

smoke = {
    **on_digits(),
    "model.network.width": 8,
    "model.network.layers": 2,
    "model.network.window": 3,
    "model.network.head_width": 8,
    "optim.network.lr": 1e-3,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
