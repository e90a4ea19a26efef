"""Where the words of a prompt are looked at: weights as attention has them, tokens of words, and the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import imagegen_jax as ig
from imagegen_jax.cli.edit.attending import AttentionRequest, attend
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Captioned, Shapes
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.editing.attention import attended, heated, row_seen, words_of
from imagegen_jax.nn.attention import SequenceAttention
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.multihead import MultiHeadAttention, keeping_attention
from imagegen_jax.nn.text_encoders.small import TextTransformer
from imagegen_jax.text import SentencePieces, Words, WordVocabulary
from imagegen_jax.text.joined import JoinedRows

KEY = jax.random.key(0)
MODEL = Diffusion(
    DiT(patch=4, depth=2, width=16, heads=2, cross_attention=True), levels=Karras(3), image_shape=(16, 16, 3),
    text=TextTransformer(vocabulary_size=40, context=12, width=8, depth=1, heads=2),
)  # fmt: skip
PROMPT = "a small red circle on the left"


@pytest.mark.parametrize("attention", [MultiHeadAttention(1, dtype="float32"), SequenceAttention(1, dtype="float32")])
def test_kept_weights_are_those_that_the_output_is_made_with(attention):
    x, tokens = (jax.random.normal(jax.random.fold_in(KEY, i), (2, n, 6)) for i, n in enumerate((5, 4)))
    mask = jnp.asarray([[True, True, False, True], [True, False, False, False]])
    variables = attention.init(KEY, x, tokens, mask)
    with keeping_attention() as kept:
        found = attention.apply(variables, x, tokens, mask)
    (weights,), params = kept, variables["params"]
    last = params.get("value", params.get("key_value"))
    values = (tokens @ last["kernel"] + last.get("bias", 0))[..., -6:]
    mixed = weights @ values @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(mixed, found, atol=1e-5)
    assert not np.asarray(weights)[~np.broadcast_to(mask[:, None], weights.shape)].any()
    attention.apply(variables, x, tokens, mask)
    assert len(kept) == 1  # nothing is kept unasked


def test_a_text_that_is_not_seen_has_no_weights():
    attention, x = MultiHeadAttention(1), jnp.ones((1, 2, 4))
    with keeping_attention() as kept:
        attention.init(KEY, x, x, jnp.zeros((1, 2), bool))
    assert not np.asarray(kept[0]).any()


@pytest.mark.slow
def test_shares_add_up_to_one_over_the_tokens_that_are_seen():
    given = WordVocabulary(context=12).open([PROMPT]).encode([PROMPT, "circle"])
    conditions = {"text": given.tokens, "text_mask": given.mask}
    batch = {"image": jnp.zeros((2, 16, 16, 3)), **conditions}
    nets = jax.jit(batch_draws(MODEL.init))(KEY, batch)
    shares = np.asarray(jax.jit(lambda nets: attended(MODEL, nets, {**batch, "conditions": conditions}, KEY))(nets))
    assert shares.shape == (2, 16, 16, 12)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=1e-5)
    assert not shares[1, ..., 3:].any() and shares[0, ..., :9].all()


def test_words_have_the_tokens_by_which_the_text_grows(root):
    tokenizer = Words.built([PROMPT], context=8)
    assert [word.text for word in words_of(tokenizer, PROMPT)] == PROMPT.split()[:6]  # the last one is cut off
    assert [(word.tokens.start, word.tokens.stop) for word in words_of(tokenizer, "red, circle")] == [(1, 3), (3, 4)]
    with np.load(root / "tests" / "reference" / "sentence_pieces.npz") as file:
        t5 = SentencePieces(file["model"].tobytes(), context=64)
    row, words = (
        t5.tokens_of("a photograph of supercalifragilistic"),
        words_of(t5, "a photograph of supercalifragilistic"),
    )
    assert [token for word in words for token in row[word.tokens]] == row and len(words) == 4
    assert words[3].tokens.stop - words[3].tokens.start > 3


def test_of_rows_side_by_side_words_have_the_tokens_of_the_first():
    """A network that sees the features of all at the places of one; rows of other lengths are refused."""
    one = Words.built([PROMPT], context=8)
    joined = JoinedRows((one, Words.built([PROMPT], context=8)))
    assert row_seen(one, 8) is one and row_seen(joined, 8) is one
    with pytest.raises(ValueError, match="the network looks at 16 tokens, but the rows of its Words have 8"):
        row_seen(joined, 16)


def test_a_word_that_is_looked_at_everywhere_alike_paints_nothing():
    image = np.full((4, 4, 3), 200, np.uint8)
    plain = heated(image, np.full((4, 4), 0.3))
    np.testing.assert_array_equal(plain, np.full((4, 4, 3), 200))
    there = np.zeros((4, 4))
    there[1, 2] = 0.5
    assert heated(image, there)[1, 2].tolist() == [255, 60, 0] and (heated(image, there)[0] == 200).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGEGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = Captioned(Shapes(40, size=16), WordVocabulary(context=12))
        optim = {"network": Adam(1e-3), "text": Adam(1e-3)}
        experiment = ig.Experiment("text", MODEL, data, optim, batch_size=8, steps=1, samples=1)
        return ig.fit(experiment, tmp_path_factory.mktemp("run") / "run", quiet=True)


@pytest.mark.slow
def test_the_picture_has_a_column_for_each_word(run, tmp_path):
    place = attend(AttentionRequest(run=run.workdir, prompt=(PROMPT,), n=2, out=tmp_path / "maps.png"))
    with Image.open(place) as picture:
        width, height = picture.size
        assert picture.info["prompts"] and width % 8 == 0 and height > width // 8
    plain = ig.fit(
        ig.override(
            run.experiment,
            {
                "model.network.cross_attention": False,
                "model.text": None,
                "data": Shapes(40, size=16),
                "optim": {"network": Adam(1e-3)},
                "sample_every": 0,
                "mesh.data": 1,
            },
        ),
        tmp_path / "plain",
        quiet=True,
    )
    with pytest.raises(ValueError, match="only images that a model draws by text have words"):
        attend(AttentionRequest(run=plain.workdir, out=tmp_path / "none.png"))
