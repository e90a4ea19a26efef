r"""Pix2Pix on the CMP facades at 256x256 (Isola et al. 2017, arXiv 1611.07004): label maps to photos.

    python -m experiments.pix2pix_facades --workdir runs/pix2pix_facades --data.images facades/train
    imagegen sample runs/pix2pix_facades --n 16

The data: a folder, .zip or folder of a .zip of pairs side by side, photo left and labels right, such as facades.tar.gz
of the authors' site (http://efrosgans.eecs.berkeley.edu/pix2pix/datasets/), unpacked: 400 pairs. The CMP Facade
Database (Tylecek & Sara 2013) is for research; it has no licence of its own. For pairs of 128 pixels add
`--model.image_shape 128 128 3 --model.generator.levels 7`.

The authors' recipe in PyTorch: batch 1, Adam with rate 2e-4 and beta1 0.5, random jitter from 286 pixels and mirroring,
100 epochs, and 100 more while the rate falls to 0 (the paper: 200 at one rate). Cost: made for an accelerator. On 2 CPU
cores, 64x64 pixels and narrow networks take 24 minutes, and learn walls, windows and balconies where the labels say:

    ... --data.size 64 --model.image_shape 64 64 3 --model.generator.levels 6 --model.generator.width 32 \
        --model.discriminator.width 32 --model.discriminator.halvings 2 --batch_size 4 --model.sample_norm running \
        --steps 12000

Expected: 54,413,955 parameters in the generator and 2,768,705 in the discriminator, as published; FID 119.1 against
the test photos, as mmgeneration measured the authors' own code. `Paired(image_side="right")` goes from photo to labels.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import Adam, LinearDecay
from imagegen_jax.data import DigitPairs, Jitter, Paired
from imagegen_jax.gan.translation.pix2pix import Pix2Pix
from imagegen_jax.recipes.smoke import TINY

EPOCH = 400  # steps: pairs, one a step

experiment = Experiment(
    name="pix2pix_facades",
    model=Pix2Pix(),
    data=Paired("facades.zip/train", image_side="left", channels=3),
    augment=(Jitter(),),
    optim={
        "generator": Adam(LinearDecay(2e-4, start=100 * EPOCH), b1=0.5),
        "discriminator": Adam(LinearDecay(2e-4, start=100 * EPOCH), b1=0.5),
    },
    batch_size=1,
    steps=200 * EPOCH,
    log_every=100,
    sample_every=10 * EPOCH,
    samples=16,
    checkpoint_every=10 * EPOCH,
)

smoke = {
    **TINY,
    "data": DigitPairs(size=16),
    "model.image_shape": (16, 16, 1),
    "model.source_channels": 1,
    "model.generator.width": 4,
    "model.generator.levels": 3,
    "model.discriminator.width": 4,
    "model.discriminator.halvings": 1,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
