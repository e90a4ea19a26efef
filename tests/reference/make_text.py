"""Reference values from transformers for tests/text: rows of CLIP's and BERT's tokenizers for 10,000 texts.

    python3.11 -m venv .venv-text
    .venv-text/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    .venv-text/bin/pip install transformers==5.24.0 open_clip_torch==3.3.0
    .venv-text/bin/python tests/reference/make_text.py

Writes text.npz beside this file: small vocabularies, and a checksum of each row. CLIP's is made of its own first 1,500
merges, which open_clip carries (MIT licence, OpenAI 2021); BERT's of the same pieces and single characters, since its
own is not in a package. With --agreement (and this package installed there too) it prints how many rows of this package
are equal with all of CLIP's vocabulary, whose 1.3 MB are not committed, by transformers and by open_clip.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import pathlib
import sys
import tempfile
import zlib

import numpy as np
from transformers import BertTokenizer, CLIPTokenizer

FOLDER = pathlib.Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent / "text"), str(FOLDER.parent.parent)]
from prompts import checksums, prompts  # noqa: E402

MERGES, CONTEXT = 1_500, 24  # rows short enough that some texts are cut
TRAINED = 1_000  # texts that are compared with open_clip's, since what ftfy makes of them is committed
SCRIPTS = [
    (0x21, 0x7E),
    (0xA1, 0x17F),
    (0x391, 0x3C9),
    (0x410, 0x44F),
    (0x3041, 0x30FF),
    (0x4E00, 0x4EFF),
    (0x1F600, 0x1F64F),
]


def clip_files(merges: int) -> dict[str, str]:
    """Texts of vocab.json and merges.txt with CLIP's first merges."""
    package = pathlib.Path(importlib.util.find_spec("open_clip").origin).parent  # not imported: it imports torch
    lines = gzip.decompress((package / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().split("\n")
    lines = lines[1 : 49152 - 256 - 2 + 1][:merges]
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in plain] + [chr(256 + at) for at in range(256 - len(plain))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(line.split()) for line in lines)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: at for at, token in enumerate(tokens)}
    return {"vocab.json": json.dumps(vocabulary), "merges.txt": "\n".join(["#version: 0.2", *lines, ""])}


def bert_file(merges: int) -> dict[str, str]:
    """Text of vocab.txt: special tokens, what CLIP's first merges make and single characters, each inside words too."""
    lines = clip_files(merges)["merges.txt"].split("\n")[1:-1]
    pieces = ["".join(line.split()).removesuffix("</w>") for line in lines]
    pieces += [chr(at) for low, high in SCRIPTS for at in range(low, high + 1)]
    pieces = [piece for piece in dict.fromkeys(pieces) if piece.isprintable() and not piece.isspace()]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *(f"##{piece}" for piece in pieces)]
    return {"vocab.txt": "".join(f"{token}\n" for token in tokens)}


def in_folder(files: dict[str, str]) -> pathlib.Path:
    """Writes files to a new folder."""
    folder = pathlib.Path(tempfile.mkdtemp())
    for name, text in files.items():
        (folder / name).write_text(text, newline="")
    return folder


def rows(tokenizer, texts: list[str]) -> np.ndarray:
    """Checksums of the rows that a tokenizer of transformers writes."""
    found = tokenizer(texts, padding="max_length", truncation=True, max_length=CONTEXT)
    return checksums(np.asarray(found["input_ids"], np.int32), np.asarray(found["attention_mask"]))


def agreement(texts: list[str]) -> None:
    """Prints how this package's tokenizer agrees with all of CLIP's vocabulary."""
    from imagegen_jax.text import BytePairs

    folder = in_folder(clip_files(10**6))
    ours = BytePairs.read(folder, CONTEXT).encode(texts)
    same = checksums(ours.tokens, ours.mask) == rows(CLIPTokenizer.from_pretrained(folder), texts)
    print(f"all of CLIP's merges, transformers: {same.mean():.2%} of {len(texts):,} rows are equal")
    plain, theirs = of_open_clip(texts, 10**6)
    for ftfy in (False, True):
        ours = BytePairs.read(folder, CONTEXT, entities=True, ftfy=ftfy)
        same = np.asarray([ours.tokens_of(text) == row for text, row in zip(plain, theirs, strict=True)])
        print(f"open_clip, ftfy={ftfy}: {same.mean():.2%} of {len(plain):,} texts have equal tokens")


def of_open_clip(texts: list[str], merges: int) -> tuple[list[str], list[list[int]]]:
    """Texts without names of special tokens, which open_clip has others of, and its tokens of them."""
    from open_clip import tokenizer as open_clip

    names, file = ("<|startoftext|>", "<|endoftext|>"), pathlib.Path(tempfile.mkdtemp()) / "merges.txt.gz"
    file.write_bytes(gzip.compress(clip_files(merges)["merges.txt"].rstrip("\n").encode()))
    tokenizer = open_clip.SimpleTokenizer(str(file))
    plain = [text for text in texts if not any(name in text.lower() for name in names)]
    return plain, [tokenizer.encode(text) for text in plain]


def as_trained(texts: list[str]) -> dict[str, np.ndarray]:
    """Texts, what ftfy makes of them, and checksums of open_clip's rows, none of which is cut."""
    import ftfy

    plain, tokens = of_open_clip(list(dict.fromkeys(texts)), MERGES)
    found = np.asarray([zlib.crc32(np.asarray(row, "<i4").tobytes()) for row in tokens], np.uint32)
    pairs = json.dumps({text: ftfy.fix_text(text) for text in plain})
    return {"trained": np.frombuffer(pairs.encode(), np.uint8), "open_clip": found}


def main() -> None:
    """Computes and writes all values."""
    texts = prompts()
    clip, bert = clip_files(MERGES), bert_file(MERGES)
    values = {name: np.frombuffer(text.encode(), np.uint8) for name, text in {**clip, **bert}.items()}
    values["clip"] = rows(CLIPTokenizer.from_pretrained(in_folder(clip)), texts)
    values["bert"] = rows(BertTokenizer.from_pretrained(in_folder(bert)), texts)
    values["context"] = np.int32(CONTEXT)
    values |= as_trained(texts[:TRAINED])
    np.savez_compressed(FOLDER / "text.npz", **values)
    if "--agreement" in sys.argv:
        agreement(texts)


if __name__ == "__main__":
    main()
