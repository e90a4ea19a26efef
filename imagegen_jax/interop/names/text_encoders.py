"""Names of the tensors of text encoders as the library transformers writes them, and latent diffusion's as diffusers.

Weights of CLIP may begin with "text_model." or not.
"""

from __future__ import annotations

from imagegen_jax.interop.name_map import Rule, dense, layer, norm, within

_BLOCK = [
    *(rule for part in ("query", "key", "value") for rule in layer(f"self_attn.{part[0]}_proj", f"attention/{part}")),
    *layer("self_attn.out_proj", "attention/out"),
    *layer("mlp.fc1", "mlp/hidden"),
    *layer("mlp.fc2", "mlp/out"),
    *norm("layer_norm1", "norm_0"),
    *norm("layer_norm2", "norm_1"),
]
_TEXT_MODEL = [
    Rule("embeddings.token_embedding.weight", "embedding/word/embedding"),
    Rule("embeddings.position_embedding.weight", "embedding/place"),
    Rule("embeddings.position_ids", ()),
    *within({"encoder.layers.{i}.": "block_{i}/"}, _BLOCK),
    *norm("final_layer_norm", "norm"),
]
CLIP = [
    *within({"text_model.": "", "": ""}, _TEXT_MODEL),
    Rule("text_projection.weight", "projection/kernel", dense),
]

LDM_TEXT = [
    Rule("model.embed_tokens.weight", "embedding/word/embedding"),
    Rule("model.embed_positions.weight", "embedding/place"),
    *within(
        {"model.layers.{i}.": "block_{i}/"},
        [
            *norm("self_attn_layer_norm", "norm_0"),
            *norm("final_layer_norm", "norm_1"),
            *layer("fc1", "mlp/hidden"),
            *layer("fc2", "mlp/out"),
            *_BLOCK,
        ],
    ),
    *norm("model.layer_norm", "norm"),
    Rule("to_logits.weight", ()),  # of its training
    Rule("to_logits.bias", ()),
]

T5 = [
    Rule("shared.weight", "word/embedding"),
    Rule("encoder.embed_tokens.weight", ()),  # the same
    Rule("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "distance"),
    *within(
        {"encoder.block.{i}.layer.0.": "block_{i}/"},
        [
            Rule("layer_norm.weight", "norm_0/scale"),
            *(
                Rule(f"SelfAttention.{part[0]}.weight", f"attention/{part}/kernel", dense)
                for part in ("query", "key", "value", "out")
            ),
        ],
    ),
    *within(
        {"encoder.block.{i}.layer.1.": "block_{i}/"},
        [
            Rule("layer_norm.weight", "norm_1/scale"),
            Rule("DenseReluDense.wi_0.weight", "mlp/hidden/kernel", dense),
            Rule("DenseReluDense.wi_1.weight", "mlp/gate/kernel", dense),
            Rule("DenseReluDense.wo.weight", "mlp/out/kernel", dense),
        ],
    ),
    Rule("encoder.final_layer_norm.weight", "norm/scale"),
]

BERT = [
    Rule("embeddings.word_embeddings.weight", "embedding/word/embedding"),
    Rule("embeddings.position_embeddings.weight", "embedding/place"),
    Rule("embeddings.token_type_embeddings.weight", "segment"),
    Rule("embeddings.position_ids", ()),
    *norm("embeddings.LayerNorm", "norm_in"),
    *within(
        {"encoder.layer.{i}.": "block_{i}/"},
        [
            *(
                rule
                for part in ("query", "key", "value")
                for rule in layer(f"attention.self.{part}", f"attention/{part}")
            ),
            *layer("attention.output.dense", "attention/out"),
            *norm("attention.output.LayerNorm", "norm_0"),
            *layer("intermediate.dense", "mlp/hidden"),
            *layer("output.dense", "mlp/out"),
            *norm("output.LayerNorm", "norm_1"),
        ],
    ),
    *layer("pooler.dense", "pool"),
]
