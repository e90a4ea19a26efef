"""What a model can do is told by its members: a class of a user's own takes part, without a base class."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Affine, Regression, ToyData

from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.autoencoders.vdvae import VDVAE
from imagegen_jax.core.capabilities import Denoising, DrawsLatents, FromLatents, StyleBased
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.experiment import Experiment, validate
from imagegen_jax.core.files.identity import contents
from imagegen_jax.core.model import (
    ChecksConditions,
    ClassConditional,
    Entering,
    Entry,
    FromRows,
    Generative,
    Model,
    OptionallyConditioned,
    Staged,
    check_labels,
    condition_rows,
    num_classes,
    one_hot_labels,
    optional_conditions,
)
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.program import Program, enters
from imagegen_jax.core.source import Recorded, Source, class_names_of, labels_of
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.editing import latents
from imagegen_jax.gan.dcgan import DCGAN
from imagegen_jax.gan.residual.biggan import BigGAN
from imagegen_jax.gan.style.progan import ProGAN
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.translation.cyclegan import CycleGAN
from imagegen_jax.metrics.features.classifier import Classifier

ALL = (ClassConditional, FromRows, OptionallyConditioned, ChecksConditions, Staged, Entering, FromLatents, DrawsLatents,
       StyleBased, Denoising)  # fmt: skip

CAPABILITIES = {
    DCGAN(): {FromLatents},
    VAE(): {FromLatents},
    VDVAE(): {FromLatents, OptionallyConditioned, ChecksConditions},
    BigGAN(): {ClassConditional, OptionallyConditioned, ChecksConditions, FromLatents, DrawsLatents},
    StyleGAN2(): {ClassConditional, OptionallyConditioned, ChecksConditions, FromLatents, StyleBased},
    ProGAN(): {ClassConditional, Staged, Entering, FromLatents},
    CycleGAN(): {FromRows},
    Diffusion(): {ClassConditional, FromRows, OptionallyConditioned, ChecksConditions, Denoising},
}


@pytest.mark.parametrize("model", CAPABILITIES, ids=lambda model: type(model).__name__)
def test_models_of_this_package_can_do_what_their_members_say(model):
    assert isinstance(model, Model) and isinstance(model, Generative)
    assert {each for each in ALL if isinstance(model, each)} == CAPABILITIES[model]


def test_a_classifier_is_a_model_that_draws_nothing():
    model = Classifier((8, 8, 1), 3)
    assert isinstance(model, Model) and isinstance(model, ClassConditional) and not isinstance(model, Generative)


@dataclasses.dataclass(frozen=True)
class Own(Regression):
    """A user's: members as a field, a class variable and a property alike."""

    num_classes: int = 0
    optional_conditions = ("brightness",)

    @property
    def condition_rows(self):
        return {"source": jax.ShapeDtypeStruct((2, 2, 1), np.uint8)}

    def check_conditions(self, conditions):
        if conditions.get("brightness", 0) > 1:
            raise ValueError("brightness: at most 1")

    def sample(self, nets, key, n, conditions):
        return jnp.clip(conditions["source"] + conditions.get("brightness", 0.0), -1, 1)


def test_fields_class_variables_and_properties_count_alike():
    model = Own()
    assert num_classes(model) == 0 and optional_conditions(model) == ("brightness",) and set(condition_rows(model))
    assert num_classes(Regression()) == 0 and optional_conditions(Regression()) == () and not condition_rows(object())


def test_no_classes_and_no_word_of_classes_are_the_same():
    batch = {"image": np.zeros((2, 2, 2, 1))}
    for model in (Own(), Regression()):
        check_labels(model, batch)
        assert one_hot_labels(model, batch) is None
    with pytest.raises(ValueError, match="num_classes=3, but the batch has no 'label'"):
        check_labels(Own(num_classes=3), batch)
    assert one_hot_labels(Own(num_classes=3), {"label": np.array([2])}).tolist() == [[0, 0, 1]]


def test_a_users_model_draws_by_conditions_of_its_own():
    source = np.full((2, 2, 2, 1), 127, np.uint8)
    nets = Affine().init(jax.random.key(0), jnp.zeros((1, 4)))
    plain = draw.sample(Own(), {"network": nets}, 2, conditions={"source": source})
    bright = draw.sample(Own(), {"network": nets}, 2, conditions={"source": source, "brightness": 0.5})
    assert (plain == 127).all() and (bright == 191).all()
    with pytest.raises(ValueError, match="at most 1"):
        draw.sample(Own(), {"network": nets}, 2, conditions={"source": source, "brightness": 2.0})
    with pytest.raises(ValueError, match="'contrast' given"):
        draw.sample(Own(), {"network": nets}, 2, conditions={"source": source, "contrast": 0.5})


def test_a_model_without_stages_may_enter_the_only_one():
    """The shapes of its state are then those that it enters with, as the loop makes them."""

    @dataclasses.dataclass(frozen=True)
    class Doubling(Regression):
        def enter(self, stage, nets):
            assert stage is None
            return Entry(dict(nets) | {"copy": nets["network"]})

    model = Doubling()
    assert isinstance(model, Entering) and not isinstance(model, Staged)
    assert enters(model, 0) and not enters(model, 1) and not enters(Regression(), 0)
    program = Program(Experiment("doubling", model, ToyData(), {"network": SGD(0.1)}, batch_size=8, steps=2))
    assert set(program.abstract_state(0).params) == {"network"}
    assert set(program.abstract_state(2).params) == {"network", "copy"}


def test_latents_are_drawn_by_the_model_where_it_says_how():
    class Uniform:
        image_shape, latent_dim = (2, 2, 1), 3

        def generate(self, nets, z, conditions): ...

        def latents(self, key, n, conditions):
            return jax.random.uniform(key, (n, 3))

    class Plain:
        image_shape, latent_dim = (2, 2, 1), 3

        def generate(self, nets, z, conditions): ...

    key = jax.random.key(0)
    assert latents.draw(latents.latent_model(Uniform()), key, 50, {}).min() >= 0
    assert latents.draw(latents.latent_model(Plain()), key, 50, {}).min() < 0
    with pytest.raises(TypeError, match="has no styles"):
        latents.style_model(Plain())


# --- data ------------------------------------------------------------------------------------------------------------


class OwnSet:
    """A user's data: rows, and what else a test gives them."""

    def __init__(self, **more):
        for name, value in more.items():
            setattr(self, name, value)

    def batch(self, step, n, seed=0, rows=None):
        return {"image": np.zeros((n, 2, 2, 1), np.float32), "label": np.zeros(n, np.int32)}


def test_data_tell_as_much_as_they_know():
    """Labels without names of classes, names without labels, or neither."""
    experiment = Experiment("own", Own(num_classes=3), ToyData(), {"network": SGD(0.1)}, batch_size=8)
    with pytest.raises(ValueError, match="no labels"):
        validate(experiment, OwnSet())
    with pytest.raises(ValueError, match="labels from 0 to 7"):
        validate(experiment, OwnSet(labels=np.array([0, 7])))
    with pytest.raises(ValueError, match="2 classes"):
        validate(experiment, OwnSet(labels=np.array([0, 1]), class_names=("a", "b")))
    assert class_names_of(OwnSet(class_names=("a",))) == ("a",) and labels_of(OwnSet()) is None


def test_data_of_a_users_own_can_say_what_they_are():
    class Known(OwnSet):
        def __len__(self):
            return 9

        def contents(self):
            return {"rows": "0123"}

    assert contents(Known()) == {"rows": "0123"}
    assert set(contents(OwnSet())) == {"image", "label"}  # digests of the first rows
    assert isinstance(Known(), Recorded) and not isinstance(OwnSet(), Recorded)
    assert isinstance(ToyData(), Source) and not isinstance(OwnSet(), Source)
