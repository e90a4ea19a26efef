"""A classifier of noisy digits (after Dhariwal & Nichol 2021, arXiv 2105.05233, section 4), to guide `edm_digits` by.

    python -m experiments.noisy_classifier_digits --workdir runs/noisy_classifier_digits
    python -m experiments.edm_digits --workdir runs/edm_digits
    imagegen sample runs/edm_digits --guide runs/noisy_classifier_digits --guidance 1 --labels 3,7

Needs no download. The network is ADM's encoder, narrowed. Its times are wider than those that EDM trains at: samplers
begin at a level of 80, where a classifier that has seen no such noise would pull images at random.

Cost: 25 s on 2 CPU cores. Expected: it recognises 64 % of noisy images, 97 % of those with little noise. Guided by it,
`edm_digits` of 2,500 steps draws 98.9 % of the class asked for at a scale of 0.5 and 99.6 % at 1 (97.2 % alone), with
less variety: FD-classifier 0.16 and 0.27 (0.10 alone), recall 0.95 and 0.92 (0.97 alone). There is no published score
for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import SGD, AdamW, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.noisy_classifier import NoisyClassifier
from imagegen_jax.diffusion.process.times import LogNormal
from imagegen_jax.nn.backbones.adm import ADMClassifier
from imagegen_jax.recipes.smoke import TINY

experiment = Experiment(
    name="noisy_classifier_digits",
    model=NoisyClassifier(
        network=ADMClassifier(
            num_classes=10,
            width=32,
            multipliers=(1, 2),
            blocks=1,
            attention_at=(4,),
            head_channels=32,
            dropout=0.1,
        ),
        times=LogNormal(0.0, 2.0),
        image_shape=(8, 8, 1),
    ),
    data=Digits(),
    optim={"network": AdamW(CosineDecay(1e-3, warmup=50), weight_decay=0.05)},
    averages={"ema": HalfLife(images=10_000)},
    clip_norm=1.0,
    batch_size=128,
    steps=600,
    log_every=25,
    checkpoint_every=300,
)

# Adam would move the biases of keys, of which softmax sees nothing, by the rounding of their gradients, and rounding
# depends on the number of devices.
smoke = {
    **TINY,
    "model.network.width": 8,
    "model.network.head_channels": 8,
    "optim.network": SGD(1.0),
}

if __name__ == "__main__":
    main(experiment, smoke)
