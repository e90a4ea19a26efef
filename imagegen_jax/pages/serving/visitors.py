"""Who visits a page: each browser is a visitor of its own, known by a signed cookie, with a token for what it sends."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import os
import pathlib
import re
import secrets

_NAME = re.compile(r"[0-9a-f]{16}")


@dataclasses.dataclass(frozen=True)
class Visitors:
    """Signs and checks names of visitors. With a kept `secret`, they are the same after the server is started anew."""

    secret: bytes

    @property
    def key(self) -> str:
        """What the address must hold for a browser to become a visitor: other users of the machine do not know it."""
        return self._sign("key")

    @property
    def cookie_name(self) -> str:
        """The cookie's name, another for each secret: browsers do not tell the ports of one machine apart."""
        return f"imagegen_{self._sign('cookie')[:8]}"

    def cookie(self) -> str:
        """Makes the cookie of a new visitor."""
        name = secrets.token_hex(8)
        return f"{name}.{self._sign(name)}"

    def named(self, cookie: str) -> str | None:
        """Returns the visitor's name in a cookie; None where it was not signed here."""
        name, _, signature = cookie.partition(".")
        good = _NAME.fullmatch(name) and same(signature, self._sign(name))
        return name if good else None

    def token(self, visitor: str) -> str:
        """Returns what a page of this visitor sends with all that changes something."""
        return self._sign(f"token {visitor}")

    def _sign(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()[:32]


def same(given: str, wanted: str) -> bool:
    """Tells whether two texts are the same, in a time that does not tell where they differ."""
    return secrets.compare_digest(given.encode(), wanted.encode())


def kept_secret(path: pathlib.Path) -> bytes:
    """Reads the secret in a file that its owner alone may read; makes it first where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found = path.read_bytes()
        if len(found) != 32:
            raise ValueError(f"{path} holds no secret of 32 bytes: delete it, and a new one is made") from None
        return found
    with os.fdopen(descriptor, "wb") as file:
        file.write(made := secrets.token_bytes(32))
    return made
