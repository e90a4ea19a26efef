"""EDM on ImageNet at 64x64 with ADM's network (Karras et al. 2022, arXiv 2206.00364), class-conditional.

    imagegen data prepare tfds:imagenet_resized/64x64
    python -m experiments.edm_imagenet64 --workdir runs/edm_imagenet64
    imagegen sample runs/edm_imagenet64 --n 64

The authors' recipe (Tables 5 and 7): 2,500 million images in batches of 4,096, Adam with a rate of 1e-4 that is reached
after 10 million images, averages of half-life 50 million images, dropout 0.1, no mirroring; 256 stochastic steps.

The data differ: `imagenet_resized` holds the images of Chrabaszcz et al. (2017, arXiv 1707.08819), resized by box; the
authors crop the centre (`center-crop` of their dataset_tool.py).

Cost: made for 32 accelerators. Expected: 295,899,267 parameters, as published; FID 1.36, as the authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, WarmUp
from imagegen_jax.data import TFDS
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.recipes.smoke import UNET, on_digits

BATCH = 4096

experiment = Experiment(
    name="edm_imagenet64",
    model=Diffusion(
        network=ADM(192, (1, 2, 3, 4), blocks=3, dropout=0.1, learned_variance=False),
        levels=Karras(256),
        solver=Heun(churn=40, churn_min=0.05, churn_max=50, noise_scale=1.003),
        image_shape=(64, 64, 3),
        num_classes=1000,
    ),
    data=TFDS("imagenet_resized/64x64"),
    optim={"network": Adam(WarmUp(1e-4, steps=10_000_000 // BATCH))},
    averages={"ema": HalfLife(images=50_000_000)},
    batch_size=BATCH,
    steps=2_500_000_000 // BATCH,
    log_every=50,
    sample_every=10_000,
    checkpoint_every=2_500,
)

smoke = {
    **on_digits(),
    **UNET,
    "model.num_classes": 10,
    "model.network.head_channels": 8,
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
