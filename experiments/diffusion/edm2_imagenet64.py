"""EDM2-S on ImageNet at 64x64 (Karras et al. 2024, arXiv 2312.02696), class-conditional.

    imagegen data prepare tfds:imagenet_resized/64x64
    python -m experiments.edm2_imagenet64 --workdir runs/edm2_imagenet64
    imagegen sample runs/edm2_imagenet64 --n 64 --std 0.075

The authors' recipe (preset edm2-img64-s of NVlabs/edm2): 1,074 million images in batches of 2,048, Adam with beta2 0.99
and a rate of 0.01 that is reached after 10 million images and falls as 1 / sqrt(t) after 35,000 steps, weights
normalised after each, a loss weighted by its learned uncertainty, no dropout; averages of two widths, of which any
other is reconstructed after training; 32 steps of Heun's method.

The data differ: `imagenet_resized` holds the images of Chrabaszcz et al. (2017, arXiv 1707.08819), resized by box; the
authors crop the centre as ADM does (`center-crop-dhariwal` of their dataset_tool.py).

Cost: made for a rack of accelerators. Expected: 280,209,381 parameters, as published, 128 of them the uncertainty's;
FID 1.58 without guidance at a width of 0.075, as the authors report (`config_presets` of their generate_images.py).
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import PowerFunction
from imagegen_jax.core.optim import Adam, InverseSqrt, NormaliseWeights
from imagegen_jax.data import TFDS
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.times import LogNormal
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.edm2 import EDM2UNet, Uncertainty
from imagegen_jax.recipes.smoke import on_digits

BATCH = 2048
ADAM = Adam(InverseSqrt(0.01, 35_000, warmup=10_000_000 // BATCH), b2=0.99, project=(NormaliseWeights(),))

experiment = Experiment(
    name="edm2_imagenet64",
    model=Diffusion(
        network=EDM2UNet(192),
        times=LogNormal(-0.8, 1.6),
        levels=Karras(32),
        image_shape=(64, 64, 3),
        num_classes=1000,
        uncertainty=Uncertainty(),
    ),
    data=TFDS("imagenet_resized/64x64"),
    optim={"network": ADAM, "uncertainty": ADAM},
    averages={"narrow": PowerFunction(0.05), "wide": PowerFunction(0.10)},
    batch_size=BATCH,
    steps=2**30 // BATCH,
    log_every=50,
    sample_every=10_000,
    checkpoint_every=2_500,
)

smoke = {
    **on_digits(),
    "model.num_classes": 10,
    "model.network.width": 8,
    "model.network.multipliers": (1,),
    "model.network.blocks": 1,
    "model.network.attention_at": (),
    "model.network.head_channels": 8,
    "model.levels.steps": 3,
    "optim.network.lr": 1e-3,
    "optim.uncertainty.lr": 1e-3,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
