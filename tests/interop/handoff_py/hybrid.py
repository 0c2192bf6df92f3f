"""MLKEM768-P256 (section 4.3), as far as the vectors of suite 2 need it: keys and Decap.

The apps here have suite 1 only.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec, mlkem

from .derivations import p256_point, p256_public_key
from .hpke import OpenError

EK_PQ_BYTES = 1184
CT_PQ_BYTES = 1088
POINT_BYTES = 65


def check_public_key(pk: bytes) -> None:
    """ValueError if it is not a valid key."""
    if len(pk) != EK_PQ_BYTES + POINT_BYTES:
        raise ValueError("length")
    mlkem.MLKEM768PublicKey.from_public_bytes(pk[:EK_PQ_BYTES])
    p256_public_key(pk[EK_PQ_BYTES:])


class PrivateKey:
    def __init__(self, seed: bytes) -> None:
        expanded = hashlib.shake_256(seed).digest(192)
        self._pq = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self._t = self._scalar(expanded[64:])

    @staticmethod
    def _scalar(seed: bytes) -> ec.EllipticCurvePrivateKey:
        for at in range(0, len(seed), 32):
            try:
                return ec.derive_private_key(
                    int.from_bytes(seed[at : at + 32], "big"), ec.SECP256R1()
                )
            except ValueError:
                continue
        raise ValueError("no scalar")

    @property
    def _ek_t(self) -> bytes:
        return p256_point(self._t.public_key())

    def public_key(self) -> bytes:
        return self._pq.public_key().public_bytes_raw() + self._ek_t

    def decap(self, enc: bytes) -> bytes:
        if len(enc) != CT_PQ_BYTES + POINT_BYTES:
            raise OpenError
        ct_t = enc[CT_PQ_BYTES:]
        try:
            ss_t = self._t.exchange(ec.ECDH(), p256_public_key(ct_t))
        except ValueError as e:
            raise OpenError from e
        ss_pq = self._pq.decapsulate(enc[:CT_PQ_BYTES])
        return hashlib.sha3_256(ss_pq + ss_t + ct_t + self._ek_t + b"MLKEM768-P256").digest()
