"""Image quilting (Efros & Freeman 2001, doi:10.1145/383259.383296) of scikit-learn's handwritten digits, with classes.

    python -m experiments.patch_quilt_digits --workdir runs/patch_quilt_digits

Blocks of 4x4 pixels of the training images, at their places, joined by seams: what can be had by copying alone. It
needs no download.

Cost: 20 seconds of one CPU core. Expected: nearly all digits can be read, as the blocks of a place fit one another.
There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.early.patch_quilt import PatchQuilt
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="patch_quilt_digits",
    model=PatchQuilt(image_shape=(8, 8, 1), block=4, overlap=2, memory=1500, num_classes=10),
    data=Digits(split="train"),
    optim={"network": Adam(CosineDecay(1e-1))},
    batch_size=100,
    steps=60,
    log_every=15,
    sample_every=30,
    samples=100,
    checkpoint_every=30,
)

smoke = {**TINY, "model.memory": 24, "samples": 10}

if __name__ == "__main__":
    main(experiment, smoke)
