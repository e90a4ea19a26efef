"""`imagegen sign`: Content Credentials for a picture or a video, signed with a certificate of one's own."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from imagegen_jax.cli.common.command import Command
from imagegen_jax.core.provenance.credentials import KINDS, sign
from imagegen_jax.data.pictures.output import check_output, kind_of

EXAMPLES = """examples:
  imagegen sign grid.png --certificate chain.pem --key key.pem
  imagegen sign grid.png --certificate chain.pem --key key.pem --out signed.png
  imagegen provenance signed.png                 says whether it is as it was signed, and by whom

What is signed is what the file says of itself, that it is generated and by what, with all of its bytes: one bit of it
changed, and `imagegen provenance` says Invalid. Any program that saves the file anew, and most sites that take it up,
leave the credentials out, and then nothing tells that there were any. The certificate is one for signing documents or
C2PA claims (PEM, the signer's first, then those above it); a name in it counts as much as who vouches for it. Nothing
is asked of the network, so that the signature has no time stamp. It needs pip install 'imagegen_jax[credentials]'."""


@dataclasses.dataclass(frozen=True)
class SignRequest:
    """The file to sign, and by whom."""

    file: str | pathlib.Path
    _: dataclasses.KW_ONLY
    certificate: str | pathlib.Path
    key: str | pathlib.Path
    out: str | pathlib.Path | None = None  # None: in its own place


def run(request: SignRequest) -> pathlib.Path:
    """Signs a file, says so and returns its place.

    Raises ValueError where the file says nothing that could be signed, for certificates and keys that cannot sign, and
    where the package for it is missing.
    """
    file = pathlib.Path(request.file).expanduser()
    out = file if request.out is None else check_output(request.out, (kind_of(file),))
    if kind_of(file) not in KINDS:
        raise ValueError(f"{request.file}: credentials are of {', '.join(KINDS)}, by the end of the name")
    place = sign(file, request.certificate, request.key, out)
    print(f"signed: {place}")
    return place


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen sign`."""
    parser.add_argument("file", type=pathlib.Path, help="a picture or a video that a command has written")
    parser.add_argument("--certificate", type=pathlib.Path, required=True, metavar="PEM", help="of the signer, first")
    parser.add_argument("--key", type=pathlib.Path, required=True, metavar="PEM", help="its private key")
    parser.add_argument("--out", type=pathlib.Path, help="where the signed file is written (default: in its own place)")


COMMAND = Command("sign", "sign a picture's Content Credentials", add_options, SignRequest, run, EXAMPLES)
