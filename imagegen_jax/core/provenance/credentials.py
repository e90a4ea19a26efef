"""Signed Content Credentials (C2PA 2.x): who says that a picture is generated, bound to every byte of its file.

They need the extra "credentials" (c2pa-python, which brings cryptography). Nothing is asked of the network: no time
stamp, no manifest from elsewhere, no state of a certificate. No thumbnail is made. A file that is saved anew by another
program has lost them, and then nothing tells that it had them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import mimetypes
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from imagegen_jax.core.files.regular import Path, read_file, whole
from imagegen_jax.core.platform.packages import version
from imagegen_jax.core.provenance.embedded import read_said
from imagegen_jax.core.provenance.xmp import SOURCE_TYPES

REMEDY = "pip install 'imagegen_jax[credentials]' (or `pip install c2pa-python`)"
KINDS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4")
_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
_UNTRUSTED = "signingCredential.untrusted"  # whose name nobody here vouches for: said in words
_MARK = b"c2pa.claim"  # in every file that has credentials


class Credentials(NamedTuple):
    """What the credentials of a file say of it."""

    state: str  # "Valid", "Invalid", "Trusted"; "unchecked" where the package is missing
    signer: str = ""  # the name in the certificate, which anybody can give himself
    problems: tuple[str, ...] = ()  # C2PA's codes, such as "assertion.dataHash.mismatch"

    @property
    def words(self) -> str:
        """Says whether the file is as it was signed, and by whom."""
        if self.state == "unchecked":
            return f"there are some, which are not checked: {REMEDY}"
        if self.state == "Invalid":
            return f"Invalid: not as it was signed ({', '.join(self.problems) or 'damaged'})"
        vouched = "" if self.state == "Trusted" else ", a name that nobody here vouches for"
        return f"{self.state}: as it was signed by {self.signer or 'somebody without a name'}{vouched}"


def is_there() -> bool:
    """Tells whether the package is installed."""
    return importlib.util.find_spec("c2pa") is not None


def sign(path: Path, certificate: Path, key: Path, out: Path | None = None) -> pathlib.Path:
    """Writes a picture or a video with signed credentials, in its own place or to `out`, and returns that place.

    `certificate` is a PEM file of the signer's certificate and those above it, `key` one of its private key, without a
    password. What is signed is what the file says of itself: that it is generated, and how. Raises ValueError where the
    package is missing, the file says nothing, and where certificate or key cannot sign.
    """
    pems = _read_pem(certificate, "certificate"), _read_pem(key, "private key")
    said = read_said(path)
    if not said.source_type:
        raise ValueError(
            f"{path}: says nothing of how it was made, and that is what would be signed: give a file as a command of "
            "imagegen_jax has written it, without --no-metadata"
        )
    kind, content = _kind_of(path), read_file(path)
    if not is_there():
        raise ValueError(f"signing {path} needs c2pa-python: {REMEDY}")
    import c2pa

    chain, private = pems
    algorithm = _algorithm_of(certificate, chain, key, private)

    with _as_value_error(f"{certificate}: cannot sign {path}"):
        info = c2pa.C2paSignerInfo(alg=algorithm.encode(), sign_cert=chain, private_key=private, ta_url=None)
        builder = c2pa.Builder(json.dumps(_manifest(said.source_type, kind)), c2pa.Context.from_dict(_SETTINGS))
        signed = io.BytesIO()
        builder.sign(c2pa.Signer.from_info(info), kind, io.BytesIO(content), signed)
    place = pathlib.Path(path if out is None else out)
    with whole(place) as partial:
        partial.write_bytes(signed.getbuffer())
    return place


def read_credentials(path: Path) -> Credentials | None:
    """Checks the credentials of a file; None where it has none, or is of a kind that has none."""
    content = read_file(path) if pathlib.Path(path).suffix.lower() in KINDS else b""
    if _MARK not in content:
        return None
    if not is_there():
        return Credentials("unchecked")
    import c2pa

    try:
        reader = c2pa.Reader(_kind_of(path), io.BytesIO(content), context=c2pa.Context.from_dict(_SETTINGS))
        found = json.loads(reader.json())
    except c2pa.C2paError as error:
        return Credentials("Invalid", "", (str(error)[:80],))
    signature = found.get("manifests", {}).get(found.get("active_manifest"), {}).get("signature_info") or {}
    codes = (str(status.get("code")) for status in found.get("validation_status") or ())
    names = [str(signature[name]) for name in ("common_name", "issuer") if signature.get(name)]
    problems = tuple(dict.fromkeys(code for code in codes if code != _UNTRUSTED))
    return Credentials(str(found.get("validation_state", "Invalid")), " of ".join(dict.fromkeys(names)), problems)


def _manifest(source_type: str, kind: str) -> dict[str, Any]:
    own = {"name": "imagegen_jax", "version": version("imagegen_jax") or "of a checkout"}
    made = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPES + source_type, "softwareAgent": own}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [made]}}
    return {"claim_generator_info": [own], "format": kind, "assertions": [actions]}


def _kind_of(path: Path) -> str:
    """Returns the media type of a file by its name. Raises ValueError for a kind that has no credentials."""
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in KINDS:
        raise ValueError(f"{path}: credentials are of {', '.join(KINDS)}, by the end of the name")
    return "image/webp" if suffix == ".webp" else mimetypes.types_map[suffix]


def _read_pem(path: Path, what: str) -> bytes:
    """Reads a file of PEM. Raises ValueError, naming it, where it is none."""
    content = read_file(path)
    if b"-----BEGIN " not in content:
        raise ValueError(f"{path}: no {what} in PEM: give a file that begins with -----BEGIN")
    return content


def _algorithm_of(certificate: Path, chain: bytes, key: Path, private: bytes) -> str:
    """Names the algorithm of a key, by C2PA's word.

    Raises ValueError, naming the file, where they are none, or do not belong together.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        first = x509.load_pem_x509_certificates(chain)[0].public_key()
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{certificate}: no certificate in PEM ({error}): give the signer's, first of its chain"
        ) from None
    try:
        own = load_pem_private_key(private, None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise ValueError(f"{key}: no private key in PEM without a password ({error})") from None

    def shown(public: Any) -> bytes:
        return bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    if shown(own.public_key()) != shown(first):
        raise ValueError(
            f"{key}: is not the key of the first certificate in {certificate}: give the two that go together"
        )
    if isinstance(own, ec.EllipticCurvePrivateKey):
        return {256: "es256", 384: "es384", 521: "es512"}.get(own.curve.key_size, "es256")
    if isinstance(own, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(own, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise ValueError(f"{key}: a key of a kind that credentials do not have: take one of P-256, RSA or Ed25519")


@contextlib.contextmanager
def _as_value_error(what: str) -> Iterator[None]:
    import c2pa

    try:
        yield
    except c2pa.C2paError as error:
        raise ValueError(f"{what}: {error}") from None
