"""One run of a recipe, from its first step to its scores: an entry of the ledger."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import time
from typing import Any

import code_nll
import jax
import numpy as np
import pixel_nll
import vae_nll
from families import training_tflop
from machine import machine

import imagegen_jax as ig
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.autoencoders.vdvae import VDVAE
from imagegen_jax.autoregressive.pixelcnn import PixelCNN
from imagegen_jax.core.arrays.bits_per_dim import mean_and_standard_error
from imagegen_jax.core.arrays.space import space_of
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.model import Generative
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.data import Digits
from imagegen_jax.machines import programs
from imagegen_jax.machines.cost import flops_of
from imagegen_jax.metrics.card import Card
from imagegen_jax.metrics.evaluate import evaluate
from imagegen_jax.metrics.features.extractor import Pixels
from imagegen_jax.metrics.sets import ReconstructionSet, reconstructs, source_set
from imagegen_jax.recipes.shipped import recipe

from .entries import Entry
from .experiments import fingerprint, sources, values_of

TIMES = "training_time.json"  # in the folder of a run
IMPORTANCE_SAMPLES, MASKS, BATCH = 200, 16, 500
Scores = dict[str, dict[str, Any]]  # score -> its value and the ends of its 95 % interval


def measure(name: str, experiment: ig.Experiment, workdir: pathlib.Path, samples: int) -> Entry:
    """Trains a recipe's experiment, as it is shipped or changed, and scores it with so many samples.

    Run folders are named by recipe, experiment and seed: those that are finished are not trained again, and weights of
    other recipes come from runs of the same seed.
    """
    run, training = trained(name, experiment, workdir)
    scores, drawing = scored(run, samples)
    return {
        "recipe": name,
        "seed": experiment.seed,
        "experiment": fingerprint(values_of(name, experiment)),
        "steps": run.step,
        "samples": samples,
        "scores": scores,
        "parameters": sum(leaf.size for nets in run.nets.values() for leaf in jax.tree.leaves(nets["params"])),
        **training,
        **drawing,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
    }


def trained(name: str, experiment: ig.Experiment, workdir: pathlib.Path) -> tuple[ig.Run, dict[str, float]]:
    """Returns the finished run, and what training took, that of the recipes that its weights come from included."""
    seed, given = experiment.seed, dict(experiment.pretrained)
    firsts = {
        network: trained(first, dataclasses.replace(recipe(first), seed=seed), workdir)
        for network, first in sources(experiment).items()
    }
    for network, (run, _) in firsts.items():
        given[network] = dataclasses.replace(_from_run(given[network]), path=str(run.workdir))
    plain = dataclasses.replace(experiment, pretrained=given, evaluation=None, sample_every=0)
    folder = workdir / f"{name}_{fingerprint(values_of(name, experiment))[:8]}_{seed}"
    own = _took(folder, plain)
    took = {key: value + sum(times[key] for _, times in firsts.values()) for key, value in own.items()}
    return ig.load(folder), took


def _took(folder: pathlib.Path, experiment: ig.Experiment) -> dict[str, float]:
    """Trains to the end where that was not done, and says what it took: that of a run that was stopped and goes on too.

    What a process that was killed had spent is lost.
    """
    file = folder / TIMES
    times = json.loads(file.read_text()) if file.exists() else {"minutes": 0.0, "processor_minutes": 0.0}
    if "tflop" not in times:
        clock, processors = time.perf_counter(), time.process_time()
        try:
            ig.fit(experiment, folder, quiet=True)
        finally:
            times["minutes"] += (time.perf_counter() - clock) / 60
            times["processor_minutes"] += (time.process_time() - processors) / 60
            if folder.is_dir():
                write_json(file, times)
        times["tflop"] = training_tflop(experiment)
        write_json(file, times)
    return {f"training_{name}": float(f"{value:.5g}") for name, value in times.items()}


def _from_run(weights: Any) -> FromRun:
    if isinstance(weights, FromRun):
        return weights
    path, _, network = str(weights).partition(":")
    return FromRun(path, network or None)


def scored(run: ig.Run, samples: int) -> tuple[Scores, dict[str, float]]:
    """Measures all scores that a run's kind has, and what it takes to draw."""
    model = run.experiment.model
    scores: Scores = {}
    if reconstructs(model):
        test = source_set(dataclasses.replace(run.experiment.data, split="test"))
        cards = evaluate(ReconstructionSet(run, len(test), test), test, Pixels(), ["psnr"], quiet=True)
        return _of_cards(cards), {}
    if isinstance(model, (VAE, VDVAE)):
        images = dataclasses.replace(run.experiment.data, split="test").open().images
        found = vae_nll.estimates(model, run.nets, images, IMPORTANCE_SAMPLES, min(BATCH, len(images)))
        scores["NLL of test images, nats"] = _mean(np.concatenate(list(found))[:, 0])
    if isinstance(model, PixelCNN):
        scores["bits per dimension of test images"] = _mean(pixel_nll.bits(run, "test", 10_000, 100))
    if hasattr(model, "nats"):
        scores["nats of a code of test images"] = _mean(code_nll.nats(run, "test", MASKS, BATCH))
    if not (isinstance(model, Generative) and space_of(model).draws_images):
        return scores, {}
    metrics = ["fid", "prdc", *(["agreement"] if run.experiment.num_classes else [])]
    cards = run.evaluate(*metrics, n=samples, quiet=True)
    return scores | _of_cards(cards), drawing(run, min(samples, 1_000))


def drawing(run: ig.Run, images: int) -> dict[str, float]:
    """Measures what it takes to draw: seconds for 1,000 images, once compiled, and operations for one."""
    labels = np.arange(images) % run.experiment.num_classes if run.experiment.num_classes else None
    run.sample(images, labels, seed=1)
    clock, processors = time.perf_counter(), time.process_time()
    run.sample(images, labels, seed=2)
    clock, processors = time.perf_counter() - clock, time.process_time() - processors
    traced = programs.sampler(run.experiment, 100)
    return {
        "seconds_for_1000": round(clock * 1_000 / images, 4),
        "processor_seconds_for_1000": round(processors * 1_000 / images, 4),
        "drawing_mflop": round(flops_of(traced.program.jaxpr) / traced.images / 1e6, 4) if traced else 0.0,
    }


def _of_cards(cards: Any) -> Scores:
    def ends(card: Card) -> dict[str, Any]:
        return {"value": card.value, "low": card.low, "high": card.high}

    return {card.metric: ends(card) for card in cards if not card.failed}


def _mean(values: np.ndarray) -> dict[str, float]:
    """A mean over images, with 1.96 standard errors to each side."""
    mean, error = mean_and_standard_error(values)
    return {"value": mean, "low": mean - 1.96 * error, "high": mean + 1.96 * error}


def samples_of(experiment: ig.Experiment) -> int:
    """Returns how many images scores are of: 1,000 of scikit-learn's 1,797 digits, else 5,000."""
    return 1_000 if isinstance(experiment.data, Digits) else 5_000
