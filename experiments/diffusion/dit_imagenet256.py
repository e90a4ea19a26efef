"""DiT on latents of ImageNet at 256x256 (Peebles & Xie 2023, arXiv 2212.09748), class-conditional, in two sizes.

    python -m experiments.dit_xl2_imagenet256 --data.path latents_256 --workdir runs/dit_xl2_imagenet256
    python -m experiments.dit_b4_imagenet256 --data.path latents_256 --workdir runs/dit_b4_imagenet256

The data are those of Stable Diffusion's autoencoder (sd-vae-ft-ema) for the images and for their mirror images, 32x32x4
each, in the files that `data.Latents` describes. The authors' recipe (section 4): improved DDPM over 1,000 steps of the
linear schedule, batch 256, AdamW with rate 1e-4 and no decay, no warm-up, a tenth of the labels left out, averages of
decay 0.9999, 7 million steps; samples of 250 steps, guided by 1.5, which the authors do to three of four channels.
DiT-B/4 is one of the small networks of the paper's comparison (Table 4), which shows in 400,000 steps what a change is
worth.

Samples are latents like the data, float32, for that autoencoder to decode:

    imagegen sample runs/dit_xl2_imagenet256 --n 1000 --guidance 1.5 --out latents.npz

A run that was begun with latents in [-1, 1] goes on with `--data.scale 0.036430000000000004 --model.gain 5`.

Cost of dit_xl2_imagenet256: made for a rack of accelerators. Expected of dit_xl2_imagenet256: 674,834,720 trained
parameters, as published; FID 2.27 and inception score 278.24 with guidance, as the authors report, and 9.62 without.

Cost of dit_b4_imagenet256: made for an accelerator. Expected of dit_b4_imagenet256: 130,426,496 trained parameters, as
published; FID 68.4 without guidance, as the authors report.
"""

from imagegen_jax import Experiment
from imagegen_jax.core.arrays import space
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW
from imagegen_jax.data import Latents, Posterior
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.nn.backbones.dit import dit
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.recipes.smoke import TRANSFORMER, on_digits

SCALE = 0.18215  # brings these latents to a deviation of 1

SIZES = {  # recipe: the paper's name of the network, steps, and how many between grids of samples
    "dit_b4_imagenet256": ("B/4", 400_000, 10_000),
    "dit_xl2_imagenet256": ("XL/2", 7_000_000, 50_000),
}

experiments = {
    name: Experiment(
        name=name,
        model=ImprovedDDPM(
            network=dit(size, out_channels=8),
            schedule=LinearSchedule(1000),
            image_shape=(32, 32, 4),
            num_classes=1000,
            sampling_steps=250,
            label_dropout=0.1,
            space=space.Latents(SCALE),
        ),
        data=Latents("latents_256"),
        augment=(Posterior(),),
        optim={"network": AdamW(1e-4, weight_decay=0.0)},
        averages={"ema": FixedDecay(0.9999)},
        batch_size=256,
        steps=steps,
        log_every=100,
        sample_every=sample_every,
        checkpoint_every=5_000,
    )
    for name, (size, steps, sample_every) in SIZES.items()
}

smoke = {
    **on_digits(8, 4),
    **TRANSFORMER,
    "model.network.patch": 2,
    "model.num_classes": 10,
    "model.sampling_steps": 4,
    "model.schedule.steps": 20,
    "model.space.scale": 2.0,
    "samples": 10,
}
