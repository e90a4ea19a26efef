"""Stable Diffusion XL (Podell et al. 2023, arXiv 2307.01952) at 1024x1024, from captioned pictures.

    imagegen import diffusers stable-diffusion-xl-base-1.0 --out runs/sdxl     # autoencoder, encoders, tokenizers
    python -m experiments.stable_diffusion_xl --data.source.path pictures --workdir runs/stable_diffusion_xl
    imagegen sample runs/stable_diffusion_xl --prompt "a lighthouse in a storm" --guidance 5

A U-Net three times as large as Stable Diffusion's attends to the tokens of two frozen encoders of texts, CLIP ViT-L and
OpenCLIP's bigG, 2,048 features together, and is told the pooled text and the picture's sizes. Both encoders, the
autoencoder and the tokenizers are those of a published pipeline that was imported.

From the paper and its code: noise by 1,000 steps as in Stable Diffusion 1, its prediction, batches of 2,048, a tenth of
the texts left out. The paper trains for 600,000 steps at 256x256, for 200,000 at 512x512, and then at 1024x1024 and
other shapes with an offset of the noise; here all steps are at 1024x1024, each picture is whole, as its sizes say, and
noise has no offset. It gives no rate of learning: 1e-4 after 10,000 steps is Stable Diffusion 2's.

Cost: made for a pod of accelerators. Expected: 2,567,463,684 trained parameters, as published; the authors compare by
people's preference, and show no FID for this size.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.first_stages.published import published
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.core.arrays import space
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW, WarmUp
from imagegen_jax.data import Captioned, CaptionedFolder, Shapes
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.recipes.smoke import TINY
from imagegen_jax.text.settings import CLIPTokenizer, JoinedTokenizers, WordVocabulary

SCHEDULE = LinearSchedule(1000, start=0.00085, end=0.012, power=2)
VIT_L = CLIPText(layer="penultimate", last_norm=False)
BIG_G = VIT_L.clone(width=1280, depth=32, heads=20, activation="gelu", projection=1280)

experiment = Experiment(
    name="stable_diffusion_xl",
    model=Diffusion(
        network=LatentUNet(multipliers=(1, 2, 4), depths=(0, 2, 10), head_channels=64, added=True),
        prediction="epsilon",
        process=Discrete(SCHEDULE),
        times=WholeTimes(1000),
        levels=Spaced(SCHEDULE, 50, "leading", offset=1, to_zero=False),
        solver=DPMSolver(1),
        image_shape=(128, 128, 4),
        token_dropout=0.1,
        space=space.Latents(0.13025, autoencoder=published("sd", (1024, 1024, 3))),
        text=JoinedText((VIT_L, BIG_G)),
        train_text=False,
    ),
    data=Captioned(
        CaptionedFolder("pictures", size=1024, channels=3),
        JoinedTokenizers((
            CLIPTokenizer("runs/sdxl/tokenizer/0"), CLIPTokenizer("runs/sdxl/tokenizer/1", padding="!"),
        )),
    ),
    pretrained={"autoencoder": FromRun("runs/sdxl"), "text": FromRun("runs/sdxl")},
    optim={"network": AdamW(WarmUp(1e-4, 10_000))},
    averages={"ema": FixedDecay(0.9999)},
    batch_size=2_048,
    microbatches=32,
    steps=800_000,
    log_every=20,
    sample_every=10_000,
    samples=16,
    checkpoint_every=2_500,
)  # fmt: skip

SMALL = {"width": 4, "multipliers": (1, 2), "blocks": 1, "middle_attention": False}
TINY_CLIP = CLIPText(2_000, context=12, width=8, depth=1, heads=2)

smoke = {
    **TINY,
    "data": Captioned(Shapes(64, size=16), JoinedTokenizers((WordVocabulary(context=12), WordVocabulary(context=12)))),
    "pretrained": {"autoencoder": "random", "text": "random"},
    # As a whole, since 16x16 pixels cannot be halved as often as 1024x1024.
    "model.space.autoencoder": AutoencoderKL(
        (16, 16, 3), KLNetwork(ConvEncoder(**SMALL, features=4), ConvDecoder(**SMALL), 2), adversary=None
    ),
    "model.image_shape": (8, 8, 2),
    "model.text": JoinedText((TINY_CLIP, TINY_CLIP)),
    "model.network.width": 8,
    "model.network.multipliers": (1,),
    "model.network.blocks": 1,
    "model.network.depths": (1,),
    "model.network.head_channels": 4,
    "model.levels.steps": 3,
    "optim.network.lr": 1e-3,
    "microbatches": 1,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
