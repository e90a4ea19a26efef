"""Emoji by their names: a U-Net learns 1,480 small pictures with a text encoder of its own, and draws names not seen.

    # a folder "emoji" with the 72-pixel PNGs of googlefonts/noto-emoji, and a metadata.csv: file_name,text
    python -m experiments.emoji_text --workdir runs/emoji_text
    imagegen sample runs/emoji_text --prompt "blue heart" --prompt "woman technologist" --guidance 3

Names are those of Unicode's table (CLDR), "grinning face with big eyes". Each tenth picture is held out: what the model
draws by its name, it has put together of others. The data are any captioned pictures (`data.Captioned`):
--data captioned:PLACE. The model is EDM (Karras et al. 2022, arXiv 2206.00364); as in `shapes_text`, training times are
about more noise than its own, and a tenth of the names is dropped, so that samples can be guided. Pictures are not
mirrored: "left arrow" would be wrong.

Cost: about 40 min on 2 CPU cores (estimated by its first steps). Expected: not measured yet; there is no published
score. `benchmarks/retrieval.py` counts how often the name of a sample is found among 20 by `emoji_dual_encoder`.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Captioned, CaptionedFolder, Part, Shapes
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.times import LogNormal
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.text_encoders.small import TextTransformer
from imagegen_jax.recipes.smoke import TINY
from imagegen_jax.text import WordVocabulary

CONTEXT = 12  # the longest name has 8 words and signs

experiment = Experiment(
    name="emoji_text",
    model=Diffusion(
        network=UNet(width=32, multipliers=(1, 2, 3), blocks=1, attention_at=(8,), dropout=0.0, cross_attention=True),
        text=TextTransformer(vocabulary_size=2_000, context=CONTEXT, width=128, depth=2, heads=4),
        times=LogNormal(-0.8, 1.2),
        levels=Karras(18),
        solver=DPMSolver(2),
        image_shape=(32, 32, 3),
        token_dropout=0.1,
    ),
    data=Captioned(Part(CaptionedFolder("emoji", size=32, channels=3)), WordVocabulary(context=CONTEXT)),
    optim={name: Adam(CosineDecay(1e-3, warmup=100)) for name in ("network", "text")},
    averages={"ema": HalfLife(images=20_000)},
    clip_norm=1.0,
    batch_size=64,
    steps=6_000,
    log_every=25,
    sample_every=1_000,
    samples=64,
    checkpoint_every=500,
)

smoke = {
    **TINY,
    "data": Captioned(Shapes(64), WordVocabulary(context=CONTEXT)),
    "model.network.width": 8,
    "model.network.multipliers": (1, 1, 1),
    "model.text.width": 16,
    "model.text.depth": 1,
    "model.levels.steps": 3,
    "optim.network.lr": 1e-3,
    "optim.text.lr": 1e-3,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
