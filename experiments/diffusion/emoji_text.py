"""Emoji by their names: a U-Net learns 1,480 small pictures with a text encoder of its own, and draws names not seen.

    # a folder "emoji" with the 72-pixel PNGs of googlefonts/noto-emoji, and a metadata.csv: file_name,text
    python -m experiments.emoji_text --workdir runs/emoji_text
    imagegen sample runs/emoji_text --prompt "blue heart" --prompt "woman technologist" --guidance 3

Names are those of Unicode's table (CLDR), "grinning face with big eyes". Each tenth picture is held out: what the model
draws by its name, it has put together of others. The data are any captioned pictures (`data.Captioned`):
--data captioned:PLACE. Network, prediction and times are those of `shapes_text`, along the straight paths of rectified
flow (Liu et al. 2022, arXiv 2209.03003); a tenth of the names is dropped, so that samples can be guided.
Pictures are not mirrored: "left arrow" would be wrong.

Cost: 17 min of two CPU cores. Expected: `emoji_dual_encoder` finds the name of a sample among 20 for 49 % of seen names
and 44 % of others, at guidance 3; chance is 5 % (`benchmarks/retrieval.py`). Kinds and colours are right, most
shapes are blots, and what is fine cannot be read, such as the digit on a keycap. There is no published score.
"""

from imagegen_jax import Experiment, main
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Captioned, CaptionedFolder, Part, Shapes
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import LogitNormal
from imagegen_jax.diffusion.process.weighting import Plain
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
        network=UNet(
            width=32,
            multipliers=(1, 2),
            blocks=1,
            attention_at=(8,),
            dropout=0.0,
            cross_attention=True,
            patch=2,
            positions=True,
        ),
        prediction="x0",
        process=RectifiedFlow(),
        times=LogitNormal(0.5, 1.0),
        weighting=Plain("velocity"),
        time_scale=1000.0,
        clip=True,
        text=TextTransformer(vocabulary_size=2_000, context=CONTEXT, width=64, depth=1, heads=4),
        levels=Karras(16),
        solver=DPMSolver(2),
        image_shape=(32, 32, 3),
        token_dropout=0.1,
    ),
    data=Captioned(Part(CaptionedFolder("emoji", size=32, channels=3)), WordVocabulary(context=CONTEXT)),
    optim={name: Adam(CosineDecay(2e-3, warmup=50)) for name in ("network", "text")},
    averages={"ema": HalfLife(images=5_000)},
    clip_norm=1.0,
    batch_size=32,
    steps=6_000,
    log_every=50,
    sample_every=2_000,
    samples=64,
    checkpoint_every=2_000,
)

smoke = {
    **TINY,
    "data": Captioned(Shapes(64), WordVocabulary(context=CONTEXT)),
    "model.network.width": 8,
    "model.text.width": 16,
    "model.levels.steps": 3,
    "optim.network.lr": 1e-3,
    "optim.text.lr": 1e-3,
    "samples": 4,
}

if __name__ == "__main__":
    main(experiment, smoke)
