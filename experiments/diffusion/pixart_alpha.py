"""PixArt-alpha (Chen et al. 2023, arXiv 2310.00426) at 512x512 and 256x256, from pictures with long captions.

    imagegen import diffusers stable-diffusion-v1-5 --out runs/sd1     # its autoencoder
    python -m experiments.pixart_alpha_512 --workdir runs/pixart --data.source.path PICTURES
    python -m experiments.pixart_alpha_256 --workdir runs/pixart256 --data.source.path PICTURES
    imagegen sample runs/pixart --prompt "a small cactus with a happy face in the Sahara desert" --guidance 4.5

A DiT-XL/2 with attention to a text, which a frozen T5 XXL of 4.8 billion parameters encodes as 120 tokens; latents are
Stable Diffusion's. No command makes T5's files: `t5/spiece.model` and the weights `t5.safetensors` are those of v1.1
XXL (`--data.tokenizer.folder` and `--pretrained.text` name others). PICTURES are any with captions beside them
(`data.CaptionedFolder`): the authors had 14 million with captions that a model of pictures and language wrote.

The configurations of the authors' code: improved DDPM over 1,000 steps of the linear schedule, noise and variance;
AdamW with a rate of 2e-5 after 1,000 steps and a decay of 0.03; gradients cut off at a norm of 0.01; a tenth of the
texts left out; averages of decay 0.9999. Batches are those of 64 V100 with 176 and 40 images each, steps those of the
last stage of each size. The authors begin with a DiT of ImageNet's classes.

Cost: made for a rack of accelerators (the authors: 64 V100, 753 A100 days in all). Expected: 610,856,096 trained
parameters, as published; FID 7.32 on MS-COCO without training on it, as the authors report of their 512x512.
"""

from imagegen_jax import Experiment
from imagegen_jax.autoencoders.first_stages.published import published
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.core.arrays import space
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.core.checkpoints.weights import FromFile, FromRun
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW, WarmUp
from imagegen_jax.data import Captioned, CaptionedFolder, Shapes
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.nn.text_encoders.t5 import T5Encoder
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER
from imagegen_jax.text.settings import T5Tokenizer, WordVocabulary

ROW, STOP = 120, 1  # the length of T5's rows, and its token at the end of a text

SIZES = {  # recipe: pixels, batch, in how many parts, steps
    "pixart_alpha_256": (256, 64 * 176, 8, 90_000),
    "pixart_alpha_512": (512, 64 * 40, 8, 100_000),
}

experiments = {
    name: Experiment(
        name=name,
        model=ImprovedDDPM(
            network=PixArt(extent=pixels // 16),
            schedule=LinearSchedule(1000),
            image_shape=(pixels // 8, pixels // 8, 4),
            sampling_steps=100,
            token_dropout=0.1,
            space=space.Latents(0.18215, autoencoder=published("sd", (pixels, pixels, 3))),
            text=T5Encoder(context=ROW),
            train_text=False,
            empty_text=EmptyText((STOP, *(0,) * (ROW - 1)), 1),
        ),
        data=Captioned(
            CaptionedFolder("captioned_pictures", size=pixels, channels=3), T5Tokenizer("t5", ROW, lower=True)
        ),
        pretrained={"autoencoder": FromRun("runs/sd1"), "text": FromFile("t5.safetensors")},
        optim={"network": AdamW(WarmUp(2e-5, 1_000), eps=1e-10, weight_decay=0.03)},
        averages={"ema": FixedDecay(0.9999)},
        clip_norm=0.01,
        batch_size=batch_size,
        microbatches=parts,
        steps=steps,
        log_every=20,
        sample_every=5_000,
        samples=16,
        checkpoint_every=2_500,
    )
    for name, (pixels, batch_size, parts, steps) in SIZES.items()
}

SMALL = {"width": 4, "multipliers": (1, 2), "blocks": 1, "middle_attention": False}

smoke = {
    **TINY,
    **TRANSFORMER,
    "data": Captioned(Shapes(64, size=16), WordVocabulary(context=12)),
    "pretrained": {"autoencoder": "random", "text": "random"},
    # As a whole, since 16x16 pixels cannot be halved as often as these.
    "model.space.autoencoder": AutoencoderKL(
        (16, 16, 3), KLNetwork(ConvEncoder(**SMALL, features=4), ConvDecoder(**SMALL), 2), adversary=None
    ),
    "model.image_shape": (8, 8, 2),
    "model.text": T5Encoder(2_000, context=12, width=8, depth=1, heads=2, head_channels=4, hidden=8),
    "model.empty_text": EmptyText((1,) * 12, 1),
    "model.network.out_channels": 4,
    "model.network.extent": 4,
    "model.sampling_steps": 3,
    "model.schedule.steps": 20,
    "optim.network.lr": 1e-4,
    "clip_norm": 1.0,
    "microbatches": 1,
    "samples": 4,
}
