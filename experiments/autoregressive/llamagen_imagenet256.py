"""LlamaGen (Sun et al. 2024, arXiv 2406.06525) on the codes of ImageNet at 256x256, class-conditional, in two sizes.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.llamagen_b_imagenet256 --workdir runs/llamagen_b_imagenet256
    python -m experiments.llamagen_l_imagenet256 --workdir runs/llamagen_l_imagenet256
    imagegen sample runs/llamagen_b_imagenet256 --n 50 --guidance 2

The tokenizer is the authors' VQ-16: VQGAN's networks, and 16,384 codes of 8 values and of length 1. Its run, runs/vq16,
is of `vqgan_imagenet256` with these options of --model.network.quantiser: .codebook_size 16384, .dim 8, .normalised
and .no-swapped. Their recipe (section 3.1, code of FoundationVision/LlamaGen): AdamW with rate 1e-4, betas 0.9 and
0.95, and decay 0.05 of all but vectors, gradients clipped to a norm of 1, batch 256 for 300 epochs, a tenth of the
labels dropped, dropout of 0.1. They train on ten crops of each image, and here images are mirrored alone.

Cost of llamagen_b_imagenet256: 252 GB of disk for the images as uint8; made for a rack of accelerators.
Expected of llamagen_b_imagenet256: 110,888,448 parameters, as published;
FID 5.46 at a guidance of 2, as the authors report.

Cost of llamagen_l_imagenet256: 252 GB of disk for the images as uint8; made for a rack of accelerators.
Expected of llamagen_l_imagenet256: 342,910,976 parameters, as published;
FID 3.80 at a guidance of 2, as the authors report.
"""

from imagegen_jax import Experiment
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.prior import CodePrior
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.optim import AdamW
from imagegen_jax.data import TFDS, Digits, HorizontalFlip
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.transformers.gpt import llamagen
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER

SIZES = {"llamagen_b_imagenet256": "B", "llamagen_l_imagenet256": "L"}  # recipe: the authors' name of the network

experiments = {
    name: Experiment(
        name=name,
        model=CodePrior(
            tokenizer=VQVAE(
                image_shape=(256, 256, 3),
                network=Tokenizer(
                    encoder=ConvEncoder(attention_levels=(4,)),
                    quantiser=Codebook(codebook_size=16_384, dim=8, normalised=True),
                    decoder=ConvDecoder(attention_levels=(4,)),
                    post_features=256,
                ),
            ),
            network=llamagen(size),
            num_classes=1000,
            label_dropout=0.1,
        ),
        data=TFDS("imagenet2012", split="train", size=256, channels=3),
        augment=(HorizontalFlip(),),
        pretrained={"tokenizer": FromRun("runs/vq16")},
        optim={"prior": AdamW(1e-4, b2=0.95, weight_decay=0.05, decay_vectors=False)},
        clip_norm=1.0,
        batch_size=256,
        steps=1_500_000,
        log_every=100,
        sample_every=50_000,
        checkpoint_every=5_000,
    )
    for name, size in SIZES.items()
}

smoke = {
    **TINY,
    **TRANSFORMER,
    "data": Digits(),
    "model.network.hidden": 24,
    "pretrained": {"tokenizer": "random"},
    "model.tokenizer": VQVAE(
        (8, 8, 1), Tokenizer(ResidualEncoder(4, 1, 1, 4), Codebook(16, 4, normalised=True), ResidualDecoder(4, 1, 1, 4))
    ),
    "model.num_classes": 10,
    "samples": 10,
}
