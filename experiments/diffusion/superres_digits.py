"""Super-resolution of scikit-learn's handwritten digits, from 4x4 to 8x8 pixels, by diffusion, for a CPU.

The method of SR3 (Saharia et al. 2022, arXiv 2104.07636), a network that sees the small image, enlarged, beside the
noisy one, with the loss and solver of EDM (Karras et al. 2022, arXiv 2206.00364).

    python -m experiments.superres_digits --workdir runs/superres_digits
    imagegen sample runs/superres_digits --n 64
    imagegen sample runs/superres_digits --source small.png --out large.png        4x4 pixels of your own

Needs no download. It learns from 1,500 digits; the other 297, `Lowered(Digits(split="test"))`, are for judging it.

Cost: 14 minutes on 2 CPU cores beside much other work; `edm_digits`, as long and with the same network, takes 3 alone.
Expected: on the 297 test digits a PSNR of 19.7 dB for one draw each and 21.0 dB for the mean of 8 draws (means over
images), where Pillow's enlargements have 13.3 (nearest) and 13.7 (bicubic); means of 2x2 pixels of a draw differ from
its source by 2 grey values (root mean square). There is no published score for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Digits, Lowered
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.smoke import ONE_LEVEL, TINY

experiment = Experiment(
    name="superres_digits",
    model=Diffusion(
        network=UNet(width=32, multipliers=(1, 2), blocks=1, attention_at=(4,), dropout=0.0),
        image_shape=(8, 8, 1),
        source_shape=(4, 4, 1),
    ),
    data=Lowered(Digits(split="train"), factor=2),
    optim={"network": Adam(CosineDecay(2e-3, warmup=50))},
    averages={"ema": HalfLife(images=10_000)},
    clip_norm=1.0,
    batch_size=128,
    steps=1_000,
    log_every=25,
    sample_every=250,
    samples=64,
    checkpoint_every=500,
)

smoke = {
    **TINY,
    **ONE_LEVEL,
    "model.network.width": 8,
    "model.levels.steps": 3,
    "optim.network.lr": 2e-4,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
