"""DiT-B/4 on latents of ImageNet at 256x256 (Peebles & Xie 2023, arXiv 2212.09748), class-conditional.

    python -m experiments.dit_b4_imagenet256 --data.path latents_256 --workdir runs/dit_b4_imagenet256

One of the small networks of the paper's comparison (Table 4), by which a change can be judged in 400,000 steps; the
data, the way to decode samples and all other settings are those of `dit_xl2_imagenet256`.

Cost: made for an accelerator. Expected: 130,426,496 trained parameters, as published; FID 68.4 without guidance, as the
authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core import space
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW
from imagegen_jax.data import Digits, Latents, Posterior
from imagegen_jax.diffusion.improved import ImprovedDDPM
from imagegen_jax.diffusion.schedule import LinearSchedule
from imagegen_jax.nn.dit import dit

SCALE = 0.18215  # brings these latents to a deviation of 1

experiment = Experiment(
    name="dit_b4_imagenet256",
    model=ImprovedDDPM(
        network=dit("B/4", out_channels=8),
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
    steps=400_000,
    log_every=100,
    sample_every=10_000,
    checkpoint_every=5_000,
)

smoke = {
    "data": Digits(channels=4),
    "model.image_shape": (8, 8, 4),
    "model.num_classes": 10,
    "model.network.patch": 2,
    "model.network.depth": 1,
    "model.network.width": 16,
    "model.network.heads": 2,
    "model.sampling_steps": 4,
    "model.schedule.steps": 20,
    "model.space.scale": 2.0,
    "batch_size": 8,
    "samples": 10,
    "steps": 8,
}

if __name__ == "__main__":
    main(experiment, smoke)
