"""Makes diffusers_folder.npz: a folder as `save_pretrained` of diffusers writes it, and what its pipeline draws.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1
    .venv-torch/bin/python tests/reference/make_diffusers_folder.py

The U-Net has google/ddpm-cifar10-32's configuration with fewer levels and blocks. Of its file of weights only what is
before them is kept: the weights themselves are random, drawn from their names, and the tests draw them again, which
gives every byte of the file (`sha256`). There is little noise (`beta_end`), so that not all of the images is clipped.
"""

import hashlib
import pathlib
import tempfile
import zlib

import diffusers
import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

FOLDER = pathlib.Path(__file__).parent
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
DDPM = {
    "norm_eps": 1e-6,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "attention_head_dim": None,
}
SIZES = {  # image, channels of each level, and which of them attends, of two published models
    "ddpm-cifar10-32": (32, (128, 256, 256, 256), 1),
    "ddpm-celebahq-256": (256, (128, 128, 256, 256, 512, 512), 4),
}


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random weights that need not be saved: NumPy promises that `RandomState` draws the same forever."""
    scale = 1.0 if len(shape) == 1 and "norm" in name and name.endswith("weight") else 0.0
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return (scale + 0.5 * drawn).astype("float32")


def pipeline() -> DDPMPipeline:
    """DDPM's network and scheduler, tiny."""
    network = UNet2DModel(
        sample_size=8,
        block_out_channels=(128, 128),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        **DDPM,
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(weights(name, tuple(parameter.shape))))
    return DDPMPipeline(network, DDPMScheduler(variance_type="fixed_large", beta_end=0.002))


def saved(pipe: DDPMPipeline) -> dict[str, np.ndarray]:
    """The folder's text files by name, and the head of its weights."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        pipe.save_pretrained(folder, safe_serialization=True)
        found = {str(path.relative_to(folder)): np.array(path.read_text()) for path in folder.rglob("*.json")}
        content = (folder / WEIGHTS).read_bytes()
    head = content[: 8 + int.from_bytes(content[:8], "little")]
    digest = np.array(hashlib.sha256(content).hexdigest())
    return {**found, WEIGHTS: np.frombuffer(head, np.uint8), "sha256": digest}


def drawn(pipe: DDPMPipeline) -> dict[str, np.ndarray]:
    """The network's output, and images of 5 steps of DDIM from the same noise, both ways of clipping."""
    x = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = pipe.unet(x, torch.tensor([3, 700])).sample
    ddim = DDIMPipeline(pipe.unet, DDIMScheduler.from_config(pipe.scheduler.config))
    ddim.set_progress_bar_config(disable=True)

    def images(**options: bool) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        return ddim(batch_size=2, generator=generator, num_inference_steps=5, output_type="np", **options).images

    both = {"images": images(use_clipped_model_output=True), "images_by_default": images()}
    return {"x": x.numpy(), "t": np.array([3, 700]), "y": y.numpy(), **both}


def tensors() -> dict[str, np.ndarray]:
    """Name and shape of each tensor of the published models, without their values."""
    found = {}
    for model, (size, channels, attends) in SIZES.items():
        down = ["AttnDownBlock2D" if i == attends else "DownBlock2D" for i in range(len(channels))]
        up = [name.replace("Down", "Up") for name in reversed(down)]
        blocks = {"block_out_channels": channels, "down_block_types": down, "up_block_types": up}
        with torch.device("meta"):
            network = UNet2DModel(sample_size=size, **blocks, **DDPM)
        found[model] = np.array([f"{name} {','.join(map(str, p.shape))}" for name, p in network.state_dict().items()])
    return found


def estimates() -> dict[str, np.ndarray]:
    """What a scheduler takes for the image, at time 300, where the network puts out sin(3 x)."""
    x = torch.linspace(-2, 2, 9)
    found = {"estimate/x": x.numpy()}
    for schedule in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        for prediction in ("epsilon", "sample", "v_prediction"):
            scheduler = DDIMScheduler(beta_schedule=schedule, prediction_type=prediction)
            scheduler.set_timesteps(10)
            x_0 = scheduler.step(torch.sin(3 * x), 300, x).pred_original_sample
            found[f"estimate/{schedule}/{prediction}"] = x_0.numpy()
    return found


if __name__ == "__main__":
    pipe = pipeline()
    versions = {"torch": np.array(torch.__version__), "diffusers": np.array(diffusers.__version__)}
    arrays = {**saved(pipe), **drawn(pipe), **tensors(), **estimates(), **versions}
    np.savez_compressed(FOLDER / "diffusers_folder.npz", **arrays)
