"""HPKE (RFC 9180) in mode_psk: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.

SetupPSKS is `encap` and a `Context`, SetupPSKR is `decap` and a `Context`. The context takes the
KEM id and the shared secret, so it serves suite 2 as well.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .derivations import hkdf_expand, hkdf_extract, p256_point, p256_public_key, u16, u96, xor

KEM_P256 = 0x0010
KEM_MLKEM768_P256 = 0x0050
SUITE_KEM = {1: KEM_P256, 2: KEM_MLKEM768_P256}
KDF_HKDF_SHA256 = 0x0001
AEAD_AES_256_GCM = 0x0002
MODE_PSK = b"\x01"
NK, NN, NH = 32, 12, 32


class OpenError(Exception):
    """Something did not open. There is one such error, without a reason (section 5.9)."""


def _labeled_extract(suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite_id + label + ikm)


def _labeled_expand(suite_id: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return hkdf_expand(prk, u16(size) + b"HPKE-v1" + suite_id + label + info, size)


def _kem_shared_secret(dh: bytes, kem_context: bytes) -> bytes:
    suite_id = b"KEM" + u16(KEM_P256)
    prk = _labeled_extract(suite_id, b"", b"eae_prk", dh)
    return _labeled_expand(suite_id, prk, b"shared_secret", kem_context, 32)


def encap(pk_r: bytes, ephemeral: ec.EllipticCurvePrivateKey | None = None) -> tuple[bytes, bytes]:
    """(shared_secret, enc). The ephemeral key is random unless a test vector gives it."""
    if ephemeral is None:
        ephemeral = ec.generate_private_key(ec.SECP256R1())
    dh = ephemeral.exchange(ec.ECDH(), p256_public_key(pk_r))
    enc = p256_point(ephemeral.public_key())
    return _kem_shared_secret(dh, enc + pk_r), enc


def decap(enc: bytes, sk_r: ec.EllipticCurvePrivateKey) -> bytes:
    try:
        dh = sk_r.exchange(ec.ECDH(), p256_public_key(enc))
    except ValueError as e:
        raise OpenError from e
    return _kem_shared_secret(dh, enc + p256_point(sk_r.public_key()))


def derive_key_pair(ikm: bytes) -> ec.EllipticCurvePrivateKey:
    """RFC 9180 section 7.1.3, for test vectors that give a seed."""
    suite_id = b"KEM" + u16(KEM_P256)
    prk = _labeled_extract(suite_id, b"", b"dkp_prk", ikm)
    for counter in range(256):
        candidate = _labeled_expand(suite_id, prk, b"candidate", bytes([counter]), 32)
        try:
            return ec.derive_private_key(int.from_bytes(candidate, "big"), ec.SECP256R1())
        except ValueError:
            continue
    raise ValueError("no key")


class Context:
    """An HPKE context. One side seals with it and the other opens; both may export."""

    def __init__(
        self, kem_id: int, shared_secret: bytes, info: bytes, psk: bytes, psk_id: bytes
    ) -> None:
        self._suite_id = b"HPKE" + u16(kem_id) + u16(KDF_HKDF_SHA256) + u16(AEAD_AES_256_GCM)
        psk_id_hash = _labeled_extract(self._suite_id, b"", b"psk_id_hash", psk_id)
        info_hash = _labeled_extract(self._suite_id, b"", b"info_hash", info)
        schedule = MODE_PSK + psk_id_hash + info_hash
        secret = _labeled_extract(self._suite_id, shared_secret, b"secret", psk)
        self.key = _labeled_expand(self._suite_id, secret, b"key", schedule, NK)
        self.base_nonce = _labeled_expand(self._suite_id, secret, b"base_nonce", schedule, NN)
        self.exporter_secret = _labeled_expand(self._suite_id, secret, b"exp", schedule, NH)
        self.seq = 0

    def _nonce(self) -> bytes:
        return xor(self.base_nonce, u96(self.seq))

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        out = AESGCM(self.key).encrypt(self._nonce(), plaintext, aad)
        self.seq += 1
        return out

    def open(self, aad: bytes, ciphertext: bytes) -> bytes:
        try:
            out = AESGCM(self.key).decrypt(self._nonce(), ciphertext, aad)
        except InvalidTag as e:
            raise OpenError from e
        self.seq += 1
        return out

    def export(self, exporter_context: bytes, size: int) -> bytes:
        return _labeled_expand(self._suite_id, self.exporter_secret, b"sec", exporter_context, size)
