"""A GPT (Esser et al. 2021, arXiv 2012.09841) over the 7x7 codes of MNIST, class-conditional.

    python -m experiments.vqvae_mnist --workdir runs/vqvae_mnist
    python -m experiments.gpt_mnist --workdir runs/gpt_mnist
    imagegen sample runs/gpt_mnist --n 100

The tokenizer's weights come from the first run, and are kept in the second.

Cost: 11 minutes on 2 CPU cores with other work beside it. Expected: FD-classifier of 0.64 for 5,000 samples, of which
92.4 % are of the class asked for (`benchmarks/leaderboard_mnist.py`). There is no published score for this size.
"""

from imagegen_jax import Experiment, main, recipe
from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.prior import CodePrior
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import AdamW, CosineDecay
from imagegen_jax.data import TFDS, Digits
from imagegen_jax.nn.backbones.transformers.gpt import GPT
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER

experiment = Experiment(
    name="gpt_mnist",
    model=CodePrior(
        tokenizer=recipe("vqvae_mnist").model,
        network=GPT(depth=4, width=128, heads=4, dropout=0.1),
        num_classes=10,
        label_dropout=0.1,
    ),
    data=TFDS("mnist", split="train"),
    pretrained={"tokenizer": FromRun("runs/vqvae_mnist")},
    optim={"prior": AdamW(CosineDecay(2e-3, warmup=100), b2=0.95, weight_decay=0.01, decay_vectors=False)},
    averages={"ema": HalfLife(images=20_000)},
    clip_norm=1.0,
    batch_size=64,
    steps=4_000,
    log_every=100,
    sample_every=1_000,
    samples=100,
    checkpoint_every=500,
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
