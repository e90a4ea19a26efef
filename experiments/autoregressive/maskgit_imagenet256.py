"""MaskGIT (Chang et al. 2022, arXiv 2202.04200) on ImageNet at 256x256, class-conditional, in the authors' size.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.maskgit_tokenizer_imagenet256 --workdir runs/tokenizer --pretrained.perceptual lpips_vgg.pth
    python -m experiments.maskgit_imagenet256 --workdir runs/maskgit_imagenet256
    imagegen sample runs/maskgit_imagenet256 --n 16 --model.steps 12

The transformer and its recipe are those of the authors' configuration: batch 256, AdamW with rate 1e-4 after 5,000
steps, betas 0.9 and 0.96, decay 0.045, labels smoothed by 0.1, a cosine schedule of masks of which at least half of the
codes, averages of decay 0.999, 2 million steps, and a choice temperature of 4.5 in sampling. They have published no
training code: how the least share of masks is kept is ours, and nothing is dropped out of the weights of attention.

The tokenizer, `maskgit_tokenizer_imagenet256`, makes 16x16 codes out of 1,024.

Cost: made for a rack of accelerators. Expected: 172,457,193 parameters of the transformer and 54,515,587 of the
tokenizer, together the published 227 million; FID 6.06, as the authors report.
"""

from imagegen_jax import Experiment, main, recipe
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.maskgit import MaskGIT
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW, WarmUp
from imagegen_jax.data import TFDS, Digits, HorizontalFlip
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER

experiment = Experiment(
    name="maskgit_imagenet256",
    model=MaskGIT(
        tokenizer=VQVAE(
            image_shape=(256, 256, 3),
            network=recipe("maskgit_tokenizer_imagenet256").model.network,
        ),
    ),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    augment=(HorizontalFlip(),),
    pretrained={"tokenizer": FromRun("runs/tokenizer")},
    optim={"prior": AdamW(WarmUp(1e-4, 5_000), b2=0.96, weight_decay=0.045)},
    averages={"ema": FixedDecay(0.999)},
    batch_size=256,
    steps=2_000_000,
    log_every=50,
    sample_every=10_000,
    samples=16,
    checkpoint_every=10_000,
)

smoke = {
    **TINY,
    **TRANSFORMER,
    "data": Digits(channels=3),
    "pretrained": {"tokenizer": "random"},
    "model.num_classes": 10,
    "model.steps": 3,
    "model.tokenizer": VQVAE(
        (8, 8, 3), Tokenizer(ResidualEncoder(4, 1, 1, 4), Codebook(8, 4), ResidualDecoder(4, 1, 1, 4))
    ),
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
