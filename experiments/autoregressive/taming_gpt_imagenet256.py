"""Taming's GPT (Esser et al. 2021, arXiv 2012.09841, section 4.2) on the codes of ImageNet at 256x256.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.taming_gpt_imagenet256 --workdir runs/taming_gpt_imagenet256
    imagegen sample runs/taming_gpt_imagenet256 --n 50 --temperature 1 --top_k 600 --top_p 0.92

The tokenizer is VQGAN's of 16x16 codes out of 16,384, in runs/vqgan_16384: that of `vqgan_imagenet256` with
--model.network.quantiser.codebook_size 16384. The authors' recipe (configs and code of CompVis/taming-transformers):
AdamW with betas 0.9 and 0.95, decay 0.01 of the kernels of linear layers alone, and a rate of 4.5e-6 for each image of
a batch; no dropout, no dropped labels. Class k is the first code, as code k. They give no batch size for ImageNet: 2
for each of 8 GPUs are those of their config for faces.

Cost: 252 GB of disk for the images as uint8; made for a rack of accelerators. Expected: 1,410,640,896 parameters, as
published; FID 15.98 of plain samples, and 5.20 where a classifier rejects most, as the authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.prior import CodePrior
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.optim import AdamW
from imagegen_jax.data import TFDS, Digits
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.transformers.gpt import GPT
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER

experiment = Experiment(
    name="taming_gpt_imagenet256",
    model=CodePrior(
        tokenizer=VQVAE(
            image_shape=(256, 256, 3),
            network=Tokenizer(
                encoder=ConvEncoder(attention_levels=(4,)),
                quantiser=Codebook(codebook_size=16_384, dim=256),
                decoder=ConvDecoder(attention_levels=(4,)),
                post_features=256,
            ),
        ),
        network=GPT(depth=48, width=1536, heads=24, start="code", remat=True),
        num_classes=1000,
    ),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    pretrained={"tokenizer": FromRun("runs/vqgan_16384")},
    optim={"prior": AdamW(16 * 4.5e-6, b2=0.95, weight_decay=0.01, kernels_only=True)},
    batch_size=16,
    steps=1_000_000,
    log_every=100,
    sample_every=50_000,
    checkpoint_every=5_000,
)

smoke = {
    **TINY,
    **TRANSFORMER,
    "data": Digits(),
    "pretrained": {"tokenizer": "random"},
    "model.tokenizer": VQVAE(
        (8, 8, 1), Tokenizer(ResidualEncoder(4, 1, 1, 4), Codebook(16, 4), ResidualDecoder(4, 1, 1, 4))
    ),
    "model.num_classes": 10,
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
