"""Whether digits are what was asked for: a classifier trained on the real ones looks at 500 samples.

python benchmarks/demo_agreement.py runs/edm_digits
python benchmarks/demo_agreement.py runs/gpt_digits --name gpt_digits_agreement --temperature 0.9

The samples are drawn twice, and the second time is timed: their program is compiled by then.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from machine import write_result
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import imagegen_jax as ig


def main() -> None:
    """Trains the classifier, draws, and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--name", default="demo_agreement", help="of the result")
    parser.add_argument("--temperature", type=float, help="of a model that has one")
    parser.add_argument("--guidance", type=float, help="of a model that has it")
    options = parser.parse_args()
    real, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(real / 16, digits, test_size=0.25, random_state=0)
    classifier = SVC(C=10.0, gamma="scale").fit(train_x, train_y)
    labels = np.arange(options.n) % 10
    run, asked = ig.load(options.run), {"temperature": options.temperature, "guidance": options.guidance}
    given = {name: value for name, value in asked.items() if value is not None}
    images = run.sample(options.n, labels, seed=1, **given)
    start = time.perf_counter()
    run.sample(options.n, labels, seed=2, **given)
    seconds = time.perf_counter() - start
    flat = images.reshape(options.n, -1)
    agree = classifier.predict(flat / 255) == labels
    result = {
        "samples": options.n,
        "agreement_percent": 100 * float(agree.mean()),
        "by_class_percent": [round(100 * float(agree[labels == k].mean()), 1) for k in range(10)],
        "seconds_to_draw": round(seconds, 2),
        "distinct_samples": len(np.unique(flat, axis=0)),
        "classifier_test_accuracy_percent": 100 * float(classifier.score(test_x, test_y)),
    }
    write_result(options.name, result)


if __name__ == "__main__":
    main()
