"""What metrics mean, in a line each, for where they are shown."""

from __future__ import annotations

_ENDS = {  # the last part of a metric's name -> what it is, and which values are good
    "loss": "what this phase minimises; comparable between runs of one loss and weighting alone",
    "grad_norm": "length of the gradient, before clipping; a jump comes before a run that fails",
    "images_per_second": "speed of training, with compiling, saving, drawing and evaluating left out",
    "skipped": "share of steps that were skipped, since their gradient was too long (skip_norm)",
    "grad_norm_ratio": "second player's gradient over the first's; far from 1 for long, one of them has won",
    "diversity": "how much made images differ, as a share of what the data do; near 0 the model has collapsed",
    "saturated": "share of values that are as good as black or white; compare with saturated_data",
    "saturated_data": "the same share in the data",
    "real_sign": "mean sign of the discriminator for real images: near 1 it knows them by heart",
    "fake_sign": "mean sign of the discriminator for made images: near -1 it is never deceived",
    "fake_logit": "mean output of the discriminator for made images; higher: it takes them for real",
    "penalty": "mean of the penalty on the discriminator's gradient",
    "accuracy": "share of images that the classifier is right about, in the batches of training",
    "bits_per_dim": "bits per value of an image, under the model; lower is better, in training data here",
    "nats_per_code": "nats per code of an image, under the model; lower is better",
    "elbo": "lower bound of the log-likelihood, in nats an image; higher is better",
    "reconstruction": "how far a decoded image is from the one encoded, in nats an image",
    "kl": "nats that the latents of an image cost",
    "codebook_used": "share of the codebook's codes that are used",
    "codebook_dead": "codes that were not chosen for long",
    "error": "mean squared error of the prediction, without the loss's weights",
}
_SCORES = {  # how the name of a score begins -> likewise
    "FID": "distance of Inception features' Gaussians; lower is better, and it depends on the number of samples",
    "FD": "distance of features' Gaussians; lower is better, and comparable for one extractor alone",
    "KID": "kernel distance of features; lower is better, 0 for equal distributions, which it may pass",
    "IS": "inception score: sure of each image's class, and many classes; higher is better",
    "precision": "share of made images that could be data; higher is better",
    "recall": "share of data that could be made; higher is better",
    "density": "how densely data surround made images; near 1 for equal distributions",
    "coverage": "share of data with a made image near; higher is better",
}


def explained(name: str) -> str:
    """Returns what a metric of a run or a score means; "" where nothing is known of it."""
    if name.startswith("evaluation/"):
        return explained_score(name.partition("/")[2])
    return _ENDS.get(name.rpartition("/")[2], "")


def explained_score(name: str) -> str:
    """Returns what a score of a card means; "" where nothing is known of it."""
    return next((text for start, text in _SCORES.items() if name.startswith(start)), "")
