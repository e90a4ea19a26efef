"""A GPT (Esser et al. 2021, arXiv 2012.09841) over the 8x8 codes of CIFAR-10, class-conditional: VQGAN's second stage.

    python -m experiments.vqgan_cifar10 --workdir runs/vqgan_cifar10 --pretrained.perceptual mobilenet_v1.npz
    python -m experiments.gpt_cifar10 --workdir runs/gpt_cifar10
    imagegen sample runs/gpt_cifar10 --n 100 --guidance 1.5

The tokenizer's weights come from the first run, and are kept in the second.

Cost: 27 minutes on 2 CPU cores with other work beside it. Expected: FD-MobileNet of 13.8 for 2,000 samples, textures in
the colours of their classes and hardly an object (`benchmarks/cifar10.py gpt`). There is no published score for this
size.
"""

from imagegen_jax import Experiment, main, recipe
from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.prior import CodePrior
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import AdamW, CosineDecay
from imagegen_jax.data import TFDS, Digits, HorizontalFlip
from imagegen_jax.nn.backbones.transformers.gpt import GPT
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER

experiment = Experiment(
    name="gpt_cifar10",
    model=CodePrior(
        tokenizer=recipe("vqgan_cifar10").model,
        network=GPT(depth=4, width=192, heads=6, dropout=0.1),
        num_classes=10,
        label_dropout=0.1,
    ),
    data=TFDS("cifar10"),
    augment=(HorizontalFlip(),),
    pretrained={"tokenizer": FromRun("runs/vqgan_cifar10")},
    optim={"prior": AdamW(CosineDecay(2e-3, warmup=200), b2=0.95, weight_decay=0.01, decay_vectors=False)},
    averages={"ema": HalfLife(images=20_000)},
    clip_norm=1.0,
    batch_size=64,
    steps=3_000,
    log_every=100,
    sample_every=1_000,
    samples=100,
    checkpoint_every=1_000,
    keep_checkpoints=5,
)

smoke = {
    **TINY,
    **TRANSFORMER,
    "data": Digits(),
    "pretrained": {"tokenizer": "random"},
    "model.tokenizer": VQVAE(
        (8, 8, 1), Tokenizer(ResidualEncoder(4, 1, 1, 4), EMACodebook(8, 4), ResidualDecoder(4, 1, 1, 4))
    ),
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
