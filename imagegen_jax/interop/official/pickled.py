"""What NVIDIA's pickles say of a network: the arguments that it was made of, and its tensors."""

from __future__ import annotations

from typing import Any

from imagegen_jax.core.files.pickled_trees import CLASS, MADE_OF
from imagegen_jax.core.files.weight_files import WeightFile
from imagegen_jax.interop.settings import Settings, complete


def settings(file: WeightFile, network: str, name: str, known: Settings, place: str) -> dict[str, Any]:
    """Returns the arguments of a network's class `name`, and defaults for the rest; "a/b" is b in the mapping a.

    Raises ValueError where it is of another class, where the file does not say them, as where the network was made
    without names, and for what `known` has not.
    """
    if (found := file.metadata.get(f"{network}/{CLASS}")) != name:
        raise ValueError(f"{place}: {network} is a network of the class {found!r}: only {name} can be imported")
    below = f"{network}/{MADE_OF}/"
    given = {name.removeprefix(below): x for name, x in file.metadata.items() if name.startswith(below)}
    if not given:
        raise ValueError(
            f"{place} does not say how its network {network!r} was made: give the file as it was published"
        )
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    return complete(plain, known, f"{place}, {network}")
