"""BigGAN on ImageNet at 128x128 (Brock et al. 2019, arXiv 1809.11096), with the settings of BigGAN-PyTorch's bs256x8.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.biggan_imagenet128 --workdir runs/biggan_imagenet128

Batches of 2,048 in eight parts, one discriminator step a generator step, rates 1e-4 and 4e-4, no orthogonal
regularisation. The average's decay is 0.9999, from step 20,000 on. BigGAN-deep, with 50,244,484 and 34,590,210
parameters, has other networks:

    --model.generator DeepGenerator --model.discriminator DeepDiscriminator --model.latent-dim 128

Truncation t in [0, 1] is a condition of sampling, one compilation for all its values:

    run.sample(64, labels, truncation=0.383)

Cost: 63 GB of disk for the images as uint8, and 410 million images through both networks: made for a rack of
accelerators. Expected: 70,433,988 parameters in the generator and 87,982,370 in the discriminator, as there; FID 8.7
and inception score 98.8 (Table 2), FID 8.35 and inception score 97.76 by StudioGAN, without truncation.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import TFDS, HorizontalFlip
from imagegen_jax.gan.residual.biggan import BigGAN
from imagegen_jax.nn.objectives import NonSaturating
from imagegen_jax.recipes.smoke import on_digits

experiment = Experiment(
    name="biggan_imagenet128",
    model=BigGAN(orthogonal_weight=0.0, standing_batches=16),
    data=TFDS("imagenet2012", split="train", size=128, channels=3),
    augment=(HorizontalFlip(),),
    optim={"generator": Adam(1e-4, b1=0.0, eps=1e-6), "discriminator": Adam(4e-4, b1=0.0, eps=1e-6)},
    averages={"ema": FixedDecay(0.9999, start=20_000, networks=("generator",))},
    steps=200_000,
    batch_size=2_048,
    microbatches=8,
    log_every=100,
    sample_every=2_000,
    checkpoint_every=1_000,
)

smoke = {
    **on_digits(16, 3),
    "model.generator.width": 4,
    "model.generator.multipliers": (2, 2, 1),
    "model.generator.shared_dim": 4,
    "model.generator.attention": 8,
    "model.discriminator.width": 4,
    "model.discriminator.multipliers": (1, 2, 2),
    "model.discriminator.halvings": 2,
    "model.discriminator.attention": 8,
    "model.generator.start": "normal",  # orthogonal kernels take long to compile
    "model.discriminator.start": "normal",
    "model.latent_dim": 9,
    "model.num_classes": 10,
    "model.orthogonal_weight": 1e-4,
    "model.standing_batches": 2,
    "model.objective": NonSaturating(),  # the hinge gives the last bias no gradient while all images are within it
    "optim.generator.eps": 1e-2,  # biases before a norm have only the gradient of rounding: let it not become steps
    "optim.discriminator.eps": 1e-2,
    "averages.ema.start": 4,
    "microbatches": 1,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
