"""Makes text_encoders.npz: what text encoders of transformers, and latent diffusion's in diffusers, make of two texts.

    python3.11 -m venv .venv-torch
    .venv-torch/bin/pip install torch==2.13.0 numpy diffusers==0.42.1 transformers==5.24.0
    .venv-torch/bin/python tests/reference/make_text_encoders.py

Networks are tiny and compute in float64; their weights follow from their published names (tests/drawn_weights.py), of
which the file has each with its shape. The second text is padded. Beside them: T5's buckets of distances, and how many
parameters the published networks have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from make_official import FOLDER, by_fan_in, drawn_weights
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)
from transformers.models.t5.modeling_t5 import T5Attention

WORDS, END = 23, 22
PADDED = torch.tensor([[1, 7, 20, 4, 9, END], [1, 3, END, END, END, END]])  # as CLIP's tokenizer does
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
VIT_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}

Outputs = dict[str, Tensor]
Answer = tuple[nn.Module, Callable[[nn.Module], Outputs]]


def clip(activation: str, projection: int | None) -> Answer:
    """The last layer, all before it without the norm, and what is pooled."""
    size = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": WORDS, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}
    config = CLIPTextConfig(**size, **ids, hidden_act=activation, projection_dim=projection or 16)

    def run(network: Any) -> Outputs:
        found = network(PADDED, output_hidden_states=True)
        pooled = found.text_embeds if projection else found.pooler_output
        return {"last": found.last_hidden_state, "penultimate": found.hidden_states[-2], "pooled": pooled}

    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config), run


def t5(masked: bool) -> Answer:
    """With more channels in the heads than the width has, and padding that is seen or not."""
    size = {"d_model": 12, "d_kv": 8, "d_ff": 20, "num_layers": 2, "num_heads": 2, "vocab_size": WORDS}
    network = T5EncoderModel(T5Config(**size, feed_forward_proj="gated-gelu"))
    mask = {"attention_mask": MASK} if masked else {}
    return network, lambda network: {"last": network(PADDED, **mask).last_hidden_state}


def bert() -> Answer:
    """With what is pooled of the first token."""
    size = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    network = BertModel(BertConfig(vocab_size=WORDS, max_position_embeddings=8, **size))

    def run(network: Any) -> Outputs:
        found = network(PADDED, attention_mask=MASK)
        return {"last": found.last_hidden_state, "pooled": found.pooler_output}

    return network, run


def ldm() -> Answer:
    """Latent diffusion's."""
    heads = {"encoder_attention_heads": 2, "head_dim": 4}
    config = LDMBertConfig(WORDS, 8, 2, 64, d_model=16, **heads)
    return LDMBertModel(config), lambda network: {"last": network.model(PADDED).last_hidden_state}


def counts() -> dict[str, int]:
    """Parameters of the published sizes; nothing is drawn."""
    with torch.device("meta"):
        networks = {
            "vit_l": CLIPTextModel(CLIPTextConfig(**VIT_L)),
            "h": CLIPTextModel(CLIPTextConfig(**H, hidden_act="gelu")),
            "big_g": CLIPTextModelWithProjection(CLIPTextConfig(**BIG_G, hidden_act="gelu", projection_dim=1280)),
            "xxl": T5EncoderModel(T5Config(**XXL, vocab_size=32128, feed_forward_proj="gated-gelu")),
            "minilm": BertModel(BertConfig(**MINILM)),
            "ldm": LDMBertModel(LDMBertConfig()).model,
        }
    return {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}


def rounded(drawn: np.ndarray) -> Tensor:
    """In float64, but so that float32 holds it."""
    return torch.as_tensor(drawn.astype(np.float32)).double()


def draw(network: nn.Module) -> np.ndarray:
    """Draws a network's weights, and says which there are: "name|shape|scale"."""
    lines = []
    for name, parameter in network.double().eval().requires_grad_(False).named_parameters():
        shape = tuple(parameter.shape)
        parameter.copy_(rounded(drawn_weights.weight(name, shape, by_fan_in(name, shape))))
        lines.append(f"{name}|{','.join(map(str, shape))}|{by_fan_in(name, shape)!r}")
    return np.array(lines)


def stored(case: str, network: nn.Module, run: Callable[[nn.Module], Outputs]) -> dict[str, np.ndarray]:
    """The names, shapes and scales of a network's weights, which are drawn, and what it puts out."""
    lines = draw(network)
    arrays = {name: tensor.numpy().astype(np.float32) for name, tensor in run(network).items()}
    return {f"{case}/weights": lines} | {f"{case}/output/{name}": array for name, array in arrays.items()}


def main() -> None:
    """Writes the file."""
    cases = {
        "quick_gelu": clip("quick_gelu", None), "projected": clip("gelu", 10),
        "t5": t5(masked=True), "t5_unmasked": t5(masked=False), "bert": bert(), "ldm": ldm(),
    }  # fmt: skip
    found: dict[str, Any] = {"text": PADDED.numpy(), "mask": MASK.bool().numpy()}
    for name, (network, run) in cases.items():
        found |= stored(name, network, run)
    distance = torch.arange(-140, 141)
    found["distance"], found["bucket"] = distance.numpy(), T5Attention._relative_position_bucket(distance).numpy()
    found |= {f"count/{name}": np.array(count) for name, count in counts().items()}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    versions |= {"diffusers": diffusers.__version__, "numpy": np.__version__}
    np.savez_compressed(FOLDER / "text_encoders.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main()
