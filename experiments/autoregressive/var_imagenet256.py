"""VAR (Tian et al. 2024, arXiv 2404.02905) on ImageNet at 256x256, class-conditional: the authors' d16.

    imagegen data prepare tfds:imagenet2012        # downloads nothing: put the archives where its error says
    python -m experiments.var_imagenet256 --pretrained.tokenizer runs/var_tokenizer --workdir runs/var_imagenet256
    imagegen sample runs/var_imagenet256 --n 16 --guidance 2.5 --top_k 900 --top_p 0.96

The tokenizer has ten grids, of 1x1 to 16x16 codes out of 4,096. The authors' recipe (code of FoundationVision/VAR):
AdamW with betas 0.9 and 0.95, a rate of 1e-4 for each 256 images of a batch of 768, 200 epochs, gradients clipped to 2,
a tenth of the labels dropped. Their decay of 0.05 rises to 0.08, and their rate falls evenly to a hundredth from the
last part of training on: here the decay stays, and the rate falls along a cosine. A cfg of 1.5 there is a guidance of
2.5 here.

Cost: 252 GB of disk for the images as uint8; made for a rack of accelerators. Expected: 310,283,520 parameters, and
108,948,355 of the tokenizer, as published; FID 3.55, as the authors report.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.quantise import MultiScaleCodebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.var import VAR
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.optim import AdamW, CosineDecay
from imagegen_jax.data import TFDS, Digits
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER

experiment = Experiment(
    name="var_imagenet256",
    model=VAR(
        tokenizer=VQVAE(
            image_shape=(256, 256, 3),
            network=Tokenizer(
                encoder=ConvEncoder(160, attention_levels=(4,), features=32),
                quantiser=MultiScaleCodebook(),
                decoder=ConvDecoder(160, attention_levels=(4,)),
                post_features=32,
                joint=3,
            ),
        ),
    ),
    data=TFDS("imagenet2012", split="train", size=256, channels=3),
    pretrained={"tokenizer": FromRun("runs/var_tokenizer")},
    optim={"prior": AdamW(CosineDecay(3e-4, floor=3e-6), b2=0.95, weight_decay=0.05, decay_vectors=False)},
    clip_norm=2.0,
    batch_size=768,
    steps=333_600,
    log_every=50,
    sample_every=10_000,
    samples=16,
    checkpoint_every=2_500,
)

smoke = {
    **TINY,
    **TRANSFORMER,
    "data": Digits(channels=3),
    "pretrained": {"tokenizer": "random"},
    "model.num_classes": 10,
    "model.tokenizer": VQVAE(
        (8, 8, 3),
        Tokenizer(
            ConvEncoder(8, (1, 1), 1, (1,), features=4),
            MultiScaleCodebook(sizes=(1, 2, 4)),
            ConvDecoder(8, (1, 1), 1, (1,)),
            post_features=4,
            joint=3,
        ),
    ),
    "samples": 10,
}

if __name__ == "__main__":
    main(experiment, smoke)
