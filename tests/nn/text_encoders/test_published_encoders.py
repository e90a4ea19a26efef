"""Text encoders against those of transformers and diffusers at random weights, and at their published sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import close, count, jit, published

from imagegen_jax.interop.name_map import renamed
from imagegen_jax.interop.names import text_encoders as names
from imagegen_jax.nn.text_encoders.bert import BERTText
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.t5 import T5Encoder, buckets

CLIP = CLIPText(23, 8, width=16, depth=2, heads=2)
T5 = T5Encoder(23, 8, width=12, depth=2, heads=2, head_channels=8, hidden=20)
ENCODERS = {
    "quick_gelu": (CLIP, names.CLIP),
    "projected": (CLIP.clone(activation="gelu", projection=10), names.CLIP),
    "t5": (T5, names.T5),
    "t5_unmasked": (T5.clone(masked=False), names.T5),
    "bert": (BERTText(23, 8, width=16, depth=2, heads=2), names.BERT),
    "ldm": (CLIP.clone(activation="gelu", head_channels=4, causal=False, projection_bias=False), names.LDM_TEXT),
}
FULL = {
    "vit_l": CLIPText(),
    "h": CLIPText(width=1024, depth=23, heads=16, activation="gelu"),
    "big_g": CLIPText(
        width=1280, depth=32, heads=20, activation="gelu", layer="penultimate", last_norm=False, projection=1280
    ),
    "xxl": T5Encoder(),
    "minilm": BERTText(),
    "ldm": CLIPText(
        30_522, width=1280, depth=32, heads=8, head_channels=64, activation="gelu", causal=False, projection_bias=False
    ),
}


@pytest.fixture(scope="module")
def path(root):
    return root / "tests/reference/text_encoders.npz"


@pytest.fixture(scope="module")
def stored(path):
    with np.load(path) as arrays:
        return dict(arrays)


def encoded(path, name, text, mask, **changes):
    """What our encoder, with fields changed, makes of texts with the weights of a case; and the case."""
    encoder, rules = ENCODERS[name]
    case = published(path, name)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), text, mask)["params"]
    params = renamed(case.tensors, shapes, rules, str(path))
    return jit(encoder.clone(**changes).apply)({"params": params}, text, mask), case.outputs


@pytest.mark.parametrize("name", ENCODERS)
def test_texts_become_what_the_reference_makes(name, path, stored):
    found, wanted = encoded(path, name, jnp.int32(stored["text"]), stored["mask"])
    close(found.tokens, wanted["last"])
    if "pooled" in wanted:
        close(found.pooled, wanted["pooled"])
    if name in ("t5", "bert"):
        np.testing.assert_array_equal(found.mask, stored["mask"])
    else:
        assert found.mask is None  # cross-attention sees padding too


def test_the_last_but_one_layer_and_no_norm_can_be_asked_for(path, stored):
    """The pooled vector stays that of the last layer."""
    text, mask = jnp.int32(stored["text"]), stored["mask"]
    found, wanted = encoded(path, "projected", text, mask, layer="penultimate", last_norm=False)
    close(found.tokens, wanted["penultimate"])
    close(found.pooled, wanted["pooled"])


def test_the_mean_of_what_is_no_padding_can_be_pooled(path, stored):
    found, wanted = encoded(path, "bert", jnp.int32(stored["text"]), stored["mask"], pooling="mean")
    close(found.pooled[1], wanted["last"][1, : stored["mask"][1].sum()].mean(axis=0))


def test_distances_are_in_the_buckets_of_t5(stored):
    far = max(stored["distance"])
    found = buckets(far + 1, 32, 128)
    np.testing.assert_array_equal([*found[-1, :-1], *found[0]], stored["bucket"])


@pytest.mark.parametrize("name", FULL)
def test_published_sizes_have_as_many_parameters(name, stored):
    text = jnp.zeros((1, 8), jnp.int32)
    assert count(FULL[name], text, text > 0) == stored[f"count/{name}"]


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="9 tokens, but context=8"):
        jax.eval_shape(CLIP.init, jax.random.key(0), jnp.zeros((1, 9), jnp.int32), jnp.ones((1, 9), bool))
