"""Stable Diffusion 3 medium (Esser et al. 2024, arXiv 2403.03206) at 1024x1024, from captioned pictures.

    imagegen import diffusers stable-diffusion-3-medium --out runs/sd3     # autoencoder, encoders, tokenizers
    python -m experiments.stable_diffusion_3_medium --data.source.path pictures --workdir runs/sd3_medium
    imagegen sample runs/sd3_medium --prompt "a cat that holds a sign with 'hello world' on it" --guidance 5

A rectified flow, whose velocity a transformer predicts that has image and text as two streams. Three frozen encoders
read the text: CLIP ViT-L and OpenCLIP's bigG, whose features lie side by side, and T5 XXL, whose tokens come after.
They are those of a published pipeline that was imported, as are the tokenizers and the autoencoder of 16 channels.

From the paper: times whose logit is normal, batches of 4,096 and a rate of 1e-4 for the large models, averages. It
drops each encoder's text by itself for 46.4 % of the images; here all are dropped together, for a tenth. It trains for
500,000 steps at 256x256 before it goes up; here all are at 1024x1024, and times are not shifted towards noise in
training. The steps and the data of the medium model are not published.

Cost: made for a pod of accelerators. Expected: 2,028,328,000 trained parameters, as published; the authors compare by
people's preference, and show no FID for it.
"""

from imagegen_jax import Experiment
from imagegen_jax.autoencoders.first_stages.published import published
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.core.arrays import space
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.ema import FixedDecay
from imagegen_jax.core.optim import AdamW, WarmUp
from imagegen_jax.data import Captioned, CaptionedFolder, Shapes
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import LogitNormal
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import ShiftedFlow
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.nn.text_encoders.t5 import T5Encoder
from imagegen_jax.recipes.smoke import TINY, TRANSFORMER
from imagegen_jax.text.settings import CLIPTokenizer, JoinedTokenizers, T5Tokenizer, WordVocabulary

VIT_L = CLIPText(layer="penultimate", last_norm=False, projection=768)
BIG_G = VIT_L.clone(width=1280, depth=32, heads=20, activation="gelu", projection=1280)
T5_ROW = 256
START, STOP, ROW = 49_406, 49_407, 77  # CLIP's tokens around a text, and the length of its rows
EMPTY = (  # of the three tokenizers; padding is seen like any token
    *(START, *(STOP,) * (ROW - 1)), *(START, STOP, *(0,) * (ROW - 2)), *(1, *(0,) * (T5_ROW - 1)),
)  # fmt: skip
SEEN = tuple(place in (0, 1, ROW, ROW + 1, 2 * ROW) for place in range(len(EMPTY)))

SIZES = {"stable_diffusion_3_medium": MMDiT()}

experiments = {
    name: Experiment(
        name=name,
        model=Diffusion(
            network=network,
            prediction="velocity",
            process=RectifiedFlow(),
            times=LogitNormal(),
            time_scale=1000,
            levels=ShiftedFlow(28),
            solver=DPMSolver(1),
            image_shape=(128, 128, 16),
            token_dropout=0.1,
            space=space.Latents(1.5305, 0.0609, published("sd3", (1024, 1024, 3))),
            text=JoinedText((VIT_L, BIG_G), T5Encoder(context=T5_ROW, masked=False), width=4096, pooled="all"),
            train_text=False,
            empty_text=EmptyText(EMPTY, sum(SEEN), SEEN),
        ),
        data=Captioned(
            CaptionedFolder("pictures", size=1024, channels=3),
            JoinedTokenizers(
                (
                    CLIPTokenizer("runs/sd3/tokenizer/0"),
                    CLIPTokenizer("runs/sd3/tokenizer/1", padding="!"),
                    T5Tokenizer("runs/sd3/tokenizer/2", T5_ROW),
                )
            ),
        ),
        pretrained={"autoencoder": FromRun("runs/sd3"), "text": FromRun("runs/sd3")},
        optim={"network": AdamW(WarmUp(1e-4, 1_000))},
        averages={"ema": FixedDecay(0.9999)},
        batch_size=4_096,
        microbatches=64,
        steps=500_000,
        log_every=20,
        sample_every=10_000,
        samples=16,
        checkpoint_every=2_500,
    )
    for name, network in SIZES.items()
}

SMALL = {"width": 4, "multipliers": (1, 2), "blocks": 1, "middle_attention": False}
TINY_CLIP = CLIPText(2_000, context=12, width=8, depth=1, heads=2, projection=8)
TINY_T5 = T5Encoder(2_000, context=12, width=16, depth=1, heads=2, head_channels=4, hidden=8, masked=False)

smoke = {
    **TINY,
    **TRANSFORMER,
    "data": Captioned(Shapes(64, size=16), JoinedTokenizers((WordVocabulary(context=12),) * 3)),
    "pretrained": {"autoencoder": "random", "text": "random"},
    # As a whole, since 16x16 pixels cannot be halved as often as 1024x1024.
    "model.space.autoencoder": AutoencoderKL(
        (16, 16, 3), KLNetwork(ConvEncoder(**SMALL, features=4), ConvDecoder(**SMALL), 2), adversary=None
    ),
    "model.space.scale": 2.0,
    "model.image_shape": (8, 8, 2),
    "model.text": JoinedText((TINY_CLIP, TINY_CLIP), TINY_T5, width=16, pooled="all"),
    "model.empty_text": EmptyText((1,) * 36, 1),
    "model.network.depth": 2,  # of the last block nobody sees the text
    "model.levels.steps": 3,
    "optim.network.lr": 1e-3,
    "microbatches": 1,
    "samples": 4,
}
