"""A VAE that is judged by the features of a frozen classifier, under another name than the classifier has in its run.

Also an experiment in a user's own file, for tests of the command line and of many processes.
"""

import dataclasses

import jax
import jax.numpy as jnp

from imagegen_jax import Experiment, main
from imagegen_jax.autoencoders.networks import MLPDecoder, MLPEncoder
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.model import Aux
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Digits
from imagegen_jax.metrics.features.classifier import Classifier, ClassifierNet

SIDE = (8, 8, 1)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A VAE with a loss in the features of a network that it does not train (Dosovitskiy & Brox, arXiv 1602.02644)."""

    vae: VAE = VAE(SIDE, MLPEncoder((16,)), MLPDecoder((16,)), latent_dim=4)
    judge: ClassifierNet = ClassifierNet(width=4, features=16)
    judged_classes: int = 10
    image_shape: tuple[int, int, int] = SIDE
    frozen: tuple[str, ...] = ("judge",)
    weight: float = 1.0

    def init(self, key, batch):
        judge = self.judge.init(jax.random.fold_in(key, 1), batch["image"], self.judged_classes)
        return self.vae.init(key, batch) | {"judge": judge}

    def phases(self, stage):
        (phase,) = self.vae.phases(stage)
        return (phase._replace(loss=self.loss),)

    def features(self, nets, image):
        return self.judge.apply(nets["judge"], image, self.judged_classes)["features"]

    def loss(self, nets, inputs):
        image = inputs.batch["image"]
        loss, aux = self.vae.loss(nets, inputs)
        gap = self.features(nets, self.vae.reconstruct(nets, image)) - self.features(nets, image)
        judged = jnp.mean(jnp.sum(gap**2, axis=1))
        return loss + self.weight * judged, Aux({**aux.metrics, "judged": judged})

    def sample(self, nets, key, n, conditions):
        return self.vae.sample(nets, key, n, conditions)


@dataclasses.dataclass(frozen=True)
class Unjudged(Judged):
    """The same with no frozen network, to compare with."""

    frozen: tuple[str, ...] = ()

    def init(self, key, batch):
        return self.vae.init(key, batch)

    def phases(self, stage):
        return self.vae.phases(stage)


classifier = Experiment(
    name="classifier", model=Classifier(SIDE, 10, ClassifierNet(width=4, features=16)), data=Digits(),
    optim={"network": Adam(1e-2)}, batch_size=16, steps=6, checkpoint_every=6, log_every=3, mesh=MeshShape(data=1),
)  # fmt: skip

experiment = Experiment(
    name="judged", model=Judged(), data=Digits(), optim={"encoder": Adam(1e-3), "decoder": Adam(1e-3)},
    batch_size=16, steps=6, checkpoint_every=2, log_every=2, samples=4,
)  # fmt: skip

smoke = {"steps": 2, "pretrained": {"judge": "random"}}

if __name__ == "__main__":
    main(experiment, smoke)
