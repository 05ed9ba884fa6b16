"""CA certificates as Java reads them. Debian makes this file on installation, so no package holds it."""

from __future__ import annotations

import hashlib
import re
import ssl
import struct

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# The format's own marks; the password is no secret but Java's default, and the digest only finds damage.
_MAGIC, _VERSION, _TRUSTED = 0xFEEDFEED, 2, 2
_SALT = "changeit".encode("utf-16-be") + b"Mighty Aphrodite"


def truststore(bundle: bytes) -> bytes:
    """A Java key store (JKS) with the certificates of a PEM bundle, each of them trusted and none dated."""
    certificates = [ssl.PEM_cert_to_DER_cert(text) for text in _PEM.findall(bundle.decode())]
    content = struct.pack(">III", _MAGIC, _VERSION, len(certificates))
    for number, certificate in enumerate(certificates):
        content += struct.pack(">I", _TRUSTED) + _text(f"ca-{number}") + struct.pack(">q", 0)
        content += _text("X.509") + struct.pack(">I", len(certificate)) + certificate
    return content + hashlib.sha1(_SALT + content, usedforsecurity=False).digest()


def _text(word: str) -> bytes:
    return struct.pack(">H", len(word)) + word.encode()
