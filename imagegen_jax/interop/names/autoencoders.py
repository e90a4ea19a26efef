"""Names of the tensors of autoencoders as the library diffusers writes them, in files of all its versions."""

from __future__ import annotations

from imagegen_jax.interop.name_map import Rule, convolution, layer, norm, pixelwise, within
from imagegen_jax.interop.names.unets import SELF_ATTENTION


def residual(shortcut: str) -> list[Rule]:
    """Returns the rules of a residual block, whose `shortcut` files call differently."""
    return [
        *norm("norm1", "norm_1"),
        *convolution("conv1", "conv_1"),
        *norm("norm2", "norm_2"),
        *convolution("conv2", "conv_2"),
        *layer(shortcut, "shortcut", pixelwise),
    ]


def autoencoder(levels: int) -> list[Rule]:
    """Returns the rules of `AutoencoderKL` and `VQModel` of so many levels; attention is in the middle alone."""
    rules = [Rule("quantize.embedding.weight", "quantiser/embedding")]
    rules += [*convolution("quant_conv", "pre"), *convolution("post_quant_conv", "post")]
    downs = {f"encoder.down_blocks.{level}.": f"encoder/down_{level}" for level in range(levels)}
    ups = {f"decoder.up_blocks.{levels - 1 - level}.": f"decoder/up_{level}" for level in range(levels)}
    for name, ours in (downs | ups).items():
        rules += within({f"{name}resnets.{{j}}.": f"{ours}_{{j}}/"}, residual("conv_shortcut"))
        rules += convolution(f"{name}{'downsamplers' if name in downs else 'upsamplers'}.0.conv", ours)
    for half in ("encoder", "decoder"):
        rules += within({f"{half}.mid_block.resnets.{{j}}.": f"{half}/middle_{{j}}/"}, residual("conv_shortcut"))
        rules += within({f"{half}.mid_block.attentions.0.": f"{half}/middle_attention_0/"}, SELF_ATTENTION)
        ends = [
            *convolution("conv_in", "conv_in"),
            *norm("conv_norm_out", "norm_out"),
            *convolution("conv_out", "conv_out"),
        ]
        rules += within({f"{half}.": f"{half}/"}, ends)
    return rules
