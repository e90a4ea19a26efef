"""CycleGAN from horses to zebras at 256x256 (Zhu et al. 2017, arXiv 1703.10593).

    python -m experiments.cyclegan_horse2zebra --workdir runs/horse2zebra --data.images A/trainB --data.sources A/trainA
    imagegen sample runs/horse2zebra --n 16

The data: two folders, or folders of a .zip, such as horse2zebra.zip of the authors' site, where A above is
horse2zebra.zip/horse2zebra (http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/): 1,067 horses are the sources, and
1,334 zebras the images; exchanged, samples go the other way. The photos are ImageNet's, for non-commercial research
only: so is what is trained on them.

The authors' recipe: batch 1, Adam with rate 2e-4 and beta1 0.5, random windows of 256 pixels out of 286 and mirroring,
each side its own, 100 epochs of the zebras, and 100 more while the rate falls to 0. Cost: made for an accelerator.
Expected: 11,378,179 parameters in each generator and 2,764,737 in each discriminator, as published; FID 62.1 against
the test zebras, as mmgeneration measured the authors' own code (77.2 without the identity loss).

Measured of it small, on 2 CPU cores: images of 64x64, 16 channels and 3 blocks in the generators, 24 channels and 2
halvings in the discriminators, 9,000 steps in 13 minutes, not 7 of the 200 epochs. The cycle error of both sides
together falls from 0.63 to 0.34 (of values in [-1, 1]); colours change, stripes do not come yet, and there still are
checkerboards of the transposed convolutions.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.optim import SGD, Adam, LinearDecay
from imagegen_jax.data import DigitPairs, Jitter, Unpaired
from imagegen_jax.gan.translation.cyclegan import CycleGAN
from imagegen_jax.recipes.smoke import TINY

EPOCH = 1_334  # steps: images, one a step
NETWORKS = ("to_image", "to_source", "image_discriminator", "source_discriminator")

experiment = Experiment(
    name="cyclegan_horse2zebra",
    model=CycleGAN(),
    data=Unpaired("horse2zebra.zip/trainB", "horse2zebra.zip/trainA", channels=3),
    augment=(Jitter(together=False),),
    optim={name: Adam(LinearDecay(2e-4, start=100 * EPOCH), b1=0.5) for name in NETWORKS},
    batch_size=1,
    steps=200 * EPOCH,
    log_every=100,
    sample_every=5 * EPOCH,
    samples=16,
    checkpoint_every=5 * EPOCH,
)

# Adam would move biases that an instance norm cancels by the rounding of their gradients, which the number of devices
# changes; a higher rate would take steps as long as the weights, which start from N(0, 0.02), and grow any rounding.
smoke = {
    **TINY,
    "data": DigitPairs(size=16, paired=False),
    "model.image_shape": (16, 16, 1),
    "model.generator.width": 4,
    "model.generator.blocks": 1,
    "model.discriminator.width": 4,
    "model.discriminator.halvings": 1,
    "model.pool_size": 10,
    **{f"optim.{name}": SGD(1e-5) for name in NETWORKS},
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
