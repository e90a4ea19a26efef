"""Images from between prompts, and by other prompts with the first one's attention: where the result is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latent_models import attentive, filled

from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.ancestral import EulerAncestral
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.editing import rewording
from imagegen_jax.editing.prompts import between, mixed, way
from imagegen_jax.editing.rewording import aligned, last_level, reworded
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.multihead import MultiHeadAttention, changing_attention
from imagegen_jax.nn.text_encoders.small import TextTransformer
from imagegen_jax.text import Words

KEY = jax.random.key(0)
MODEL = Diffusion(
    DiT(patch=4, depth=1, width=16, heads=2, cross_attention=True), levels=Karras(3), solver=EulerAncestral(),
    image_shape=(8, 8, 3), token_dropout=0.1,
    text=TextTransformer(vocabulary_size=20, context=8, width=8, depth=1, heads=2),
)  # fmt: skip
PROMPTS = ("a red circle", "a blue circle", "a small blue star below")
TOKENIZER = Words.built(PROMPTS, context=8)


def conditions(prompt, n=2):
    found = TOKENIZER.encode([prompt] * n)
    return {"text": found.tokens, "text_mask": found.mask}


@pytest.fixture(scope="module")
def nets():
    """Networks of which no part is silent: `DiT` starts with gates and outputs of zero."""
    batch = {"image": jnp.zeros((2, 8, 8, 3)), **conditions(PROMPTS[0])}
    return attentive(filled(MODEL.init, KEY, batch))


@pytest.fixture(scope="module")
def sample(nets):
    program = jax.jit(lambda key, given, n: MODEL.sample(nets, key, n, given), static_argnums=2)
    return lambda prompt, key=KEY, n=2, **more: np.asarray(program(key, {**conditions(prompt, n), **more}, n))


@pytest.fixture(scope="module")
def reword(nets):
    program = jax.jit(lambda given: reworded(MODEL, nets, given, KEY))

    def run(prompt, to, cross=1.0, self=1.0, **strength):
        levels = {"cross": last_level(MODEL.path.sigmas, cross), "self": last_level(MODEL.path.sigmas, self)}
        rows = {name: np.stack([x] * 2) for name, x in aligned(TOKENIZER, prompt, to, strength)._asdict().items()}
        return np.asarray(program({"conditions": conditions(prompt), "to": conditions(to), **levels, **rows}))

    return run


def test_ends_are_the_prompts_own_images_and_noise_stays(nets, sample):
    """Of prompts of different lengths; a row's noise is its key's alone, whatever the rows beside it."""
    keys = jax.random.split(KEY, 3)
    given = {
        "conditions": conditions(PROMPTS[0], 3), "to": conditions(PROMPTS[2], 3),
        "share": jnp.asarray([0.0, 0.5, 1.0]), "keys": jax.random.key_data(keys[jnp.zeros(3, int)]),
    }  # fmt: skip
    found = np.asarray(jax.jit(lambda given: between(MODEL, nets, given, KEY, arc=False))(given))
    first, last = (sample(prompt, keys[0], n=1)[0] for prompt in (PROMPTS[0], PROMPTS[2]))
    np.testing.assert_allclose(found[0], first, atol=2e-5)
    np.testing.assert_allclose(found[2], last, atol=2e-5)
    assert np.abs(first - last).max() > 0.1 < np.abs(found[1] - first).max()


def test_a_place_that_one_text_has_counts_by_its_share():
    """Close to an end little changes: nothing jumps where a longer text begins to be seen."""
    attention, rng = MultiHeadAttention(2, dtype="float32"), np.random.default_rng(0)
    x, tokens, other = (jnp.asarray(rng.standard_normal((1, n, 4)), jnp.float32) for n in (3, 5, 5))
    masks = jnp.arange(5)[None] < 2, jnp.arange(5)[None] < 5
    ends = (Conditioning(tokens=t, token_mask=m, pooled=t[:, 0]) for t, m in zip((tokens, other), masks, strict=True))
    first, second = ends
    variables = attention.init(KEY, x, tokens)

    def looked(share, arc=False):
        seen, change = mixed(first, second, jnp.asarray([share]), arc)
        with changing_attention(change):
            return np.asarray(attention.apply(variables, x, seen.tokens, seen.token_mask)), seen

    for arc in (False, True):
        np.testing.assert_allclose(looked(0.0, arc)[0], attention.apply(variables, x, tokens, masks[0]), atol=1e-6)
        np.testing.assert_allclose(looked(1.0, arc)[0], attention.apply(variables, x, other, masks[1]), atol=1e-6)
    assert np.abs(looked(1e-5)[0] - looked(0.0)[0]).max() < 1e-3 < np.abs(looked(0.5)[0] - looked(0.0)[0]).max()
    np.testing.assert_allclose(looked(0.25)[1].pooled, 0.75 * first.pooled + 0.25 * second.pooled, rtol=1e-5)
    np.testing.assert_allclose(looked(0.25)[1].tokens[0, 1], 0.75 * tokens[0, 1] + 0.25 * other[0, 1], rtol=1e-5)
    half = looked(0.5, arc=True)[1].tokens[0, 0]
    lengths = [np.linalg.norm(one[0, 0]) for one in (tokens, other)]
    assert np.linalg.norm(half) == pytest.approx(np.mean(lengths), rel=1e-4)


def test_a_way_passes_each_prompt():
    closed, to_the_last = way(3, 2, closed=True), way(3, 2, closed=False)
    assert closed.start.tolist() == [0, 0, 1, 1, 2, 2] and closed.end.tolist() == [1, 1, 2, 2, 0, 0]
    np.testing.assert_allclose(closed.share, [0, 0.5] * 3)
    assert list(zip(*to_the_last, strict=True)) == [(0, 1, 0), (0, 1, 0.5), (1, 2, 0), (1, 2, 0.5), (1, 2, 1)]
    with pytest.raises(ValueError, match="a way through 1 prompts"):
        way(1, 2, closed=True)


def test_without_a_share_the_second_prompt_draws_as_it_would_alone(reword, sample):
    """From the same noise, also that which a solver adds; the first prompt's images are its own in any case."""
    found = reword(PROMPTS[0], PROMPTS[1], cross=0.0, self=0.0)
    np.testing.assert_allclose(found[:, 0], sample(PROMPTS[0]), atol=2e-5)
    np.testing.assert_allclose(found[:, 1], sample(PROMPTS[1]), atol=2e-5)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0.1
    np.testing.assert_allclose(reword(PROMPTS[0], PROMPTS[1])[:, 0], found[:, 0], atol=2e-5)


def test_with_all_weights_taken_over_the_same_prompt_stays_and_another_comes_nearer(reword):
    same = reword(PROMPTS[0], PROMPTS[0])
    np.testing.assert_allclose(same[:, 1], same[:, 0], atol=1e-5)
    strong = reword(PROMPTS[0], PROMPTS[0], red=3.0)
    assert np.abs(strong[:, 1] - same[:, 1]).max() > 1e-3
    np.testing.assert_array_equal(strong[:, 0], same[:, 0])
    by_cross, by_self, none = (reword(PROMPTS[0], PROMPTS[1], *shares)[:, 1] for shares in ((1, 0), (0, 1), (0, 0)))
    assert np.abs(by_cross - none).max() > 1e-4 < np.abs(by_self - none).max()
    late = reword(PROMPTS[0], PROMPTS[1], 1 / 3, 0)[:, 1]
    assert np.abs(late - none).max() > 1e-4 < np.abs(late - by_cross).max()


def test_weights_are_those_of_the_formula():
    """M*_t of the first, moved to the second's words; a new word's own ones; c times those of a reweighted word."""
    alignment = aligned(TOKENIZER, PROMPTS[0], PROMPTS[2], {"star": 2.0})
    weights = jax.random.uniform(KEY, (2, 1, 1, 4, 8))
    given = {name: x[None] for name, x in alignment._asdict().items()} | {"cross": 0.5, "self": 2.0}
    asked: list[bool] = []

    def both(sigma, to_tokens):
        change = rewording._taking_over(given, jnp.asarray([sigma]), asked)
        changed = jax.vmap(lambda w: change(w, to_tokens), axis_name=rewording._PROMPTS)(weights)
        np.testing.assert_array_equal(changed[0], weights[0])
        return np.asarray(changed[1, 0, 0])

    first, second = np.array(weights[:, 0, 0])
    # "<start> a red circle <end>" and "<start> a small blue star below <end>": only "a" is in both
    wanted = np.stack([first[:, 0], first[:, 1], *second[:, 2:6].T, first[:, 4], first[:, 5]], axis=-1)
    wanted[:, 4] *= 2
    np.testing.assert_allclose(both(1.0, True), wanted, rtol=1e-6)
    second[:, 4] *= 2
    np.testing.assert_allclose(both(0.4, True), second, rtol=1e-6)
    np.testing.assert_array_equal(both(3.0, False), first)
    np.testing.assert_array_equal(both(1.0, False), np.asarray(weights[1, 0, 0]))
    assert asked == [True, True, False, False]


def test_words_that_replace_as_many_take_their_weights():
    taken, own, strength = aligned(TOKENIZER, PROMPTS[0], PROMPTS[1])
    np.testing.assert_array_equal(taken, np.eye(8))
    assert not own.any() and (strength == 1).all()
    letters = dataclasses.replace(TOKENIZER)
    taken, own, _ = aligned(letters, "red circle", "blue, circle", {"blue": -1})
    np.testing.assert_allclose(taken[1], [0, 0.5, 0.5, 0, 0, 0, 0, 0])  # "blue" and "," share what "red" had
    np.testing.assert_allclose(taken.sum(axis=1)[:6], 1)
    with pytest.raises(ValueError, match="'green' is no word of the prompt 'a blue circle'"):
        aligned(TOKENIZER, PROMPTS[0], PROMPTS[1], {"green": 2.0})
    with pytest.raises(ValueError, match="'red' is no word of the prompt '': it has none"):
        aligned(TOKENIZER, PROMPTS[0], "", {"red": 2.0})


def test_a_share_of_the_steps_ends_between_two_levels():
    sigmas = np.asarray([8.0, 2.0, 0.5, 0.0])
    assert [int((sigmas[:-1] > last_level(sigmas, share)).sum()) for share in (0, 1 / 3, 0.7, 1)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"a share of 1\.5 of the steps"):
        last_level(sigmas, 1.5)
