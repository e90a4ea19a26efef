"""EDM on FFHQ at 64x64 (Karras et al. 2022, arXiv 2206.00364), unconditional, with non-leaking augmentation.

    python -m experiments.edm_ffhq64 --data.path ffhq_64.zip --workdir runs/edm_ffhq64
    imagegen sample runs/edm_ffhq64 --n 64

The 70,000 aligned portraits of github.com/NVlabs/ffhq-dataset, as a folder or a zip, of any size. The authors' recipe
(Table 7 and README of NVlabs/edm): DDPM++ of four levels, 200 million images in batches of 256, Adam with a rate of
2e-4 that is reached after 10 million images, averages of half-life 0.5 million images, dropout 0.05, augmentation with
probability 0.15, of which the network is told; 40 steps of Heun's method. AFHQv2 differs by a dropout of 0.25.

Cost: made for accelerators; the authors' code takes about 4 days on 8 V100 (there). Expected: 61,805,571 parameters, as
its log prints; FID 2.39, as the authors report, the least of three sets of 50,000 images.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, WarmUp
from imagegen_jax.data import Folder
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.edm_augment import EDMAugment
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.recipes.smoke import UNET, on_digits

BATCH = 256

experiment = Experiment(
    name="edm_ffhq64",
    model=Diffusion(
        network=SongUNet(multipliers=(1, 2, 2, 2), dropout=0.05),
        levels=Karras(40),
        image_shape=(64, 64, 3),
        augment=EDMAugment(0.15),
    ),
    data=Folder("ffhq_64.zip", size=64, channels=3),
    optim={"network": Adam(WarmUp(2e-4, steps=10_000_000 // BATCH))},
    averages={"ema": HalfLife(images=500_000)},
    batch_size=BATCH,
    steps=200_000_000 // BATCH,
    log_every=100,
    sample_every=10_000,
    checkpoint_every=5_000,
)

smoke = {
    **on_digits(8, 3),
    **UNET,
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
