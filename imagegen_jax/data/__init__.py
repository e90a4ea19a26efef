"""Images from disk to batches: sources, the data sets that they open as, and random changes of batches inside `jit`."""

from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.data.augment import Jitter
from imagegen_jax.data.formats.arrays import Arrays, from_arrays
from imagegen_jax.data.formats.caption_files import CaptionedFolder
from imagegen_jax.data.formats.codes import Codes, CodeSet
from imagegen_jax.data.formats.digits import Digits
from imagegen_jax.data.formats.image_folder import Folder
from imagegen_jax.data.formats.latents import Latents, Posterior
from imagegen_jax.data.formats.paired import DigitPairs, Paired, Unpaired
from imagegen_jax.data.formats.parquet import Parquet
from imagegen_jax.data.formats.shape_judge import judged
from imagegen_jax.data.formats.shapes import Shapes
from imagegen_jax.data.formats.tfds import TFDS, prepare_tfds
from imagegen_jax.data.formats.webdataset import WebDataset
from imagegen_jax.data.image import HorizontalFlip
from imagegen_jax.data.parse import parse_source
from imagegen_jax.data.source import Dataset, Source
from imagegen_jax.data.wrappers.captioned import Captioned
from imagegen_jax.data.wrappers.classes import Classes
from imagegen_jax.data.wrappers.derived import Erased, Greyed, Lowered
from imagegen_jax.data.wrappers.part import Part
from imagegen_jax.data.wrappers.slanted import Slanted
from imagegen_jax.data.wrappers.stacked import Stacked
from imagegen_jax.data.wrappers.with_few import WithFew

__all__ = [
    "Arrays",
    "Captioned",
    "CaptionedFolder",
    "Classes",
    "CodeSet",
    "Codes",
    "Dataset",
    "DigitPairs",
    "Digits",
    "Erased",
    "Folder",
    "Greyed",
    "HorizontalFlip",
    "Jitter",
    "Latents",
    "Lowered",
    "Paired",
    "Parquet",
    "Part",
    "Posterior",
    "Shapes",
    "Slanted",
    "Source",
    "Stacked",
    "TFDS",
    "Unpaired",
    "WebDataset",
    "WithFew",
    "from_arrays",
    "judged",
    "parse_source",
    "prepare_tfds",
    "to_float",
    "to_uint8",
]
