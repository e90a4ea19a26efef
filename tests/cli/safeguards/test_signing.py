"""`imagegen sign`: a file as it was signed is valid, one with a flipped bit is not, and one saved anew says nothing."""

from __future__ import annotations

import datetime
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.core.provenance import credentials
from imagegen_jax.core.provenance.credentials import read_credentials
from imagegen_jax.core.provenance.embedded import read_said
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.data.pictures.video import write_video

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
ORIGIN = Origin("runs/a", "edm", "0123456789abcdef", 9, 0, command="imagegen sample")
WORDS = ("--certificate", "chain.pem", "--key", "key.pem")


@pytest.fixture
def signer(place):
    """The files of a signer, whose certificate an authority of this test alone has signed."""
    pytest.importorskip("c2pa", reason="the extra 'credentials' is not installed")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    above, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def named(name):
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a test"),
                          x509.NameAttribute(NameOID.COMMON_NAME, name)])  # fmt: skip

    def certificate(name, key, authority):
        may_sign = [key is own, False, False, False, False, authority, authority, False, False]
        made = (
            x509.CertificateBuilder().subject_name(named(name)).issuer_name(named("authority"))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(9))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(x509.KeyUsage(*may_sign), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False)
        )  # fmt: skip
        if not authority:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        return made.sign(above, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    pathlib.Path("chain.pem").write_bytes(certificate("a signer", own, False) + certificate("authority", above, True))
    for name, key in (("key.pem", own), ("other.pem", above)):
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pathlib.Path(name).write_bytes(key.private_bytes(*form))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_one_bit_of_a_signed_file_makes_it_invalid(signer, imagegen, suffix):
    name = f"a{suffix}"
    if suffix == ".gif":
        write_video(name, [IMAGE, 255 - IMAGE], 10, ORIGIN)
    else:
        write_picture(name, IMAGE, ORIGIN)
    before = read_said(name)
    assert read_credentials(name) is None and "credentials" not in imagegen("provenance", name)[1]
    code, out, said = imagegen("sign", name, *WORDS)
    assert code == 0 and out == f"signed: {name}\n", said
    found = read_credentials(name)
    assert (found.state, found.problems) == ("Valid", ()) and found.signer == "a signer of a test"
    assert read_said(name) == before and np.asarray(Image.open(name)).shape[:2] == (48, 48)

    content = pathlib.Path(name).read_bytes()
    for at in (content.index(b"runs/a"), len(content) - 60):  # in what it says of itself, and in its pixels
        flipped = bytearray(content)
        flipped[at] ^= 1
        pathlib.Path(name).write_bytes(flipped)
        assert read_credentials(name).state == "Invalid"
        _, out, said = imagegen("provenance", name)  # code 1 where it can no longer be read
        assert "credentials Invalid: not as it was signed (" in out + said


def test_what_a_signed_picture_says_and_what_a_save_loses(signer, imagegen):
    write_picture("a.png", IMAGE, ORIGIN)
    assert imagegen("sign", "a.png", *WORDS, "--out", "signed.png")[0] == 0
    assert read_credentials("a.png") is None
    code, out, _ = imagegen("provenance", "signed.png")
    assert code == 0 and "Valid: as it was signed by a signer of a test, a name that nobody here vouches for" in out
    found = json.loads(imagegen("provenance", "signed.png", "--json")[1])["credentials"]
    assert found["state"] == "Valid" and found["problems"] == []
    with Image.open("signed.png") as picture:
        picture.save("again.png")
    assert read_credentials("again.png") is None
    assert "credentials" not in imagegen("provenance", "again.png")[1]


def test_what_cannot_sign_is_refused_and_leaves_the_file(signer, imagegen):
    write_picture("a.png", IMAGE, ORIGIN)
    write_picture("silent.png", IMAGE)
    before = pathlib.Path("a.png").read_bytes()
    for words, names in (
        (("silent.png", *WORDS), "says nothing of how it was made"),
        (("a.png", "--certificate", "chain.pem", "--key", "other.pem"), "not the key of the first certificate"),
        (("a.png", "--certificate", "key.pem", "--key", "key.pem"), "key.pem: no certificate in PEM"),
        (("a.png", "--certificate", "chain.pem", "--key", "chain.pem"), "chain.pem: no private key"),
        (("a.png", *WORDS, "--out", "a.jpg"), "this command writes .png"),
        (("absent.png", *WORDS), "absent.png"),
        (("chain.pem", *WORDS), "credentials are of .png"),
        (("a.png", *WORDS[:2], "--key", "a.png"), "a.png: no private key in PEM"),
        (("a.png", "--certificate", "/dev/zero", *WORDS[2:]), "/dev/zero"),
    ):
        code, _, said = imagegen("sign", *words)
        assert code == 1 and names in said, (words, said)
    assert pathlib.Path("a.png").read_bytes() == before


def test_without_the_package_it_is_named(place, imagegen, monkeypatch):
    monkeypatch.setattr(credentials, "is_there", lambda: False)
    for name in ("chain.pem", "key.pem"):
        pathlib.Path(name).write_text("-----BEGIN CERTIFICATE-----")
    write_picture("a.png", IMAGE, ORIGIN)
    code, _, said = imagegen("sign", "a.png", *WORDS)
    assert code == 1 and "imagegen_jax[credentials]" in said
    content = pathlib.Path("a.png").read_bytes()
    pathlib.Path("a.png").write_bytes(content + b"c2pa.claim")
    assert "credentials there are some, which are not checked" in imagegen("provenance", "a.png")[1]
