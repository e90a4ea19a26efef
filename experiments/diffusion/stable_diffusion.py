"""Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv 2112.10752) at 512x512, from captioned pictures.

    imagegen import diffusers stable-diffusion-v1-5 --out runs/sd1     # its autoencoder, encoder of texts, tokenizer
    python -m experiments.stable_diffusion_1 --data.source.path laion --workdir runs/stable_diffusion_1
    python -m experiments.stable_diffusion_2 --data.source.path laion --workdir runs/stable_diffusion_2
    imagegen sample runs/stable_diffusion_1 --prompt "a photograph of an astronaut riding a horse" --guidance 7.5

The data are any captioned pictures (`data.Captioned`); the authors' are subsets of LAION-5B. Autoencoder and encoder of
texts, OpenAI's CLIP ViT-L/14 and OpenCLIP's ViT-H/14, are frozen, and are those of a published pipeline that was
imported; to go on with its U-Net, `--pretrained.network runs/sd1`.

The authors' recipe, from the cards of their models: noise by 1,000 steps whose root grows linearly from 0.00085 to
0.012, its prediction, AdamW with a rate of 1e-4 after 10,000 steps, batches of 2,048, a tenth of the texts
left out, averages of decay 0.9999. The steps are those of all their stages together: of version 1.4 the first 237,000
were at 256x256, of the base of version 2.0 the first 550,000, and data and dropped texts changed between stages. Here
all are alike. A batch is taken in 16 parts, as eight devices need it; the authors took two on 256.

Cost of stable_diffusion_1: made for a pod of accelerators (the authors: 256 A100, 150,000 hours of one in all).
Expected of stable_diffusion_1: 859,520,964 trained parameters, as published; the authors show no FID.

Cost of stable_diffusion_2: made for a pod of accelerators (the authors: 256 A100, 200,000 hours of one in all).
Expected of stable_diffusion_2: 865,910,724 trained parameters, as published; the authors show no FID.
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
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.recipes.smoke import TINY
from imagegen_jax.text.byte_pairs import END
from imagegen_jax.text.settings import CLIPTokenizer, WordVocabulary

SCHEDULE = LinearSchedule(1000, start=0.00085, end=0.012, power=2)
START, STOP, ROW = 49_406, 49_407, 77  # CLIP's tokens around a text, and the length of its rows

VIT_L = CLIPText()
VIT_H = CLIPText(width=1024, depth=23, heads=16, activation="gelu")

SIZES = {  # recipe: U-Net, encoder of texts, what rows are filled up with and its token, folder of the tokenizer, steps
    "stable_diffusion_1": (LatentUNet(), VIT_L, END, STOP, "runs/sd1", 1_171_000),
    "stable_diffusion_2": (LatentUNet(head_channels=64), VIT_H, "!", 0, "runs/sd2", 1_400_000),
}

experiments = {
    name: Experiment(
        name=name,
        model=Diffusion(
            network=network,
            prediction="epsilon",
            process=Discrete(SCHEDULE),
            times=WholeTimes(1000),
            levels=Spaced(SCHEDULE, 50, "leading", offset=1, to_zero=False),
            solver=DPMSolver(1),
            image_shape=(64, 64, 4),
            token_dropout=0.1,
            space=space.Latents(0.18215, autoencoder=published("sd", (512, 512, 3))),
            text=text,
            train_text=False,
            empty_text=EmptyText((START, STOP, *(filler,) * (ROW - 2)), 2),
        ),
        data=Captioned(CaptionedFolder("laion", size=512, channels=3), CLIPTokenizer(f"{run}/tokenizer", ROW, padding)),
        pretrained={"autoencoder": FromRun(run), "text": FromRun(run)},
        optim={"network": AdamW(WarmUp(1e-4, 10_000))},
        averages={"ema": FixedDecay(0.9999)},
        batch_size=2_048,
        microbatches=16,
        steps=steps,
        log_every=50,
        sample_every=10_000,
        samples=16,
        checkpoint_every=5_000,
    )
    for name, (network, text, padding, filler, run, steps) in SIZES.items()
}

SMALL = {"width": 4, "multipliers": (1, 2), "blocks": 1, "middle_attention": False}

smoke = {
    **TINY,
    "data": Captioned(Shapes(64, size=16), WordVocabulary(context=12)),
    "pretrained": {"autoencoder": "random", "text": "random"},
    # As a whole, since 16x16 pixels cannot be halved as often as 512x512.
    "model.space.autoencoder": AutoencoderKL(
        (16, 16, 3), KLNetwork(ConvEncoder(**SMALL, features=4), ConvDecoder(**SMALL), 2), adversary=None
    ),
    "model.image_shape": (8, 8, 2),
    "model.text": CLIPText(2_000, context=12, width=8, depth=1, heads=2),
    "model.empty_text": EmptyText((1,) * 12, 2),
    "model.network.width": 8,
    "model.network.multipliers": (1,),
    "model.network.blocks": 1,
    "model.network.depths": (1,),
    "model.network.head_channels": None,
    "model.network.heads": 2,
    "model.levels.steps": 3,
    "optim.network.lr": 1e-3,
    "microbatches": 1,
    "samples": 4,
}
