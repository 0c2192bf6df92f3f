"""Key derivation (section 4) and the few primitives it needs."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric import ec

SUITE_ENC_BYTES = {1: 65, 2: 1153}


def u8(x: int) -> bytes:
    return x.to_bytes(1, "big")


def u16(x: int) -> bytes:
    return x.to_bytes(2, "big")


def u32(x: int) -> bytes:
    return x.to_bytes(4, "big")


def u64(x: int) -> bytes:
    return x.to_bytes(8, "big")


def u96(x: int) -> bytes:
    return bytes(4) + u64(x)


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, ikm, "sha256")


def hkdf_expand(prk: bytes, info: bytes, size: int) -> bytes:
    out = block = b""
    counter = 1
    while len(out) < size:
        block = hmac.digest(prk, block + info + u8(counter), "sha256")
        out += block
        counter += 1
    return out[:size]


def frame_secret(session_prk: bytes, frame: int) -> bytes:
    return hkdf_expand(session_prk, b"frame" + u8(frame), 32)


def frame_prk(secret: bytes) -> bytes:
    return hkdf_extract(b"handoff/1", secret)


def join_proof(prk: bytes) -> bytes:
    return hkdf_expand(prk, b"join", 32)


def join_hash(proof: bytes) -> bytes:
    return sha256(proof)[:16]


def check_proximity_nonce(prox: bytes) -> None:
    """Of a nonce that is demanded; without a demand it is empty."""
    if not 16 <= len(prox) <= 255:
        raise ValueError("a proximity nonce has 16 to 255 bytes")


def psk(prk: bytes, prox: bytes = b"") -> bytes:
    return hkdf_expand(prk, b"psk" + u8(len(prox)) + prox, 32)


def transcript_root(payload: bytes) -> bytes:
    return sha256(payload)


def pk_hash(pk: bytes) -> bytes:
    return sha256(b"handoff/1 pk" + u16(len(pk)) + pk)


def hpke_info(suite: int, root: bytes) -> bytes:
    return b"handoff/1 transfer" + u8(suite) + root


def hpke_psk_id(sid: bytes, frame: int) -> bytes:
    return sid + u8(frame)


def p256_public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """An uncompressed SEC1 point that is on the curve; ValueError otherwise."""
    if len(point) != 65 or point[0] != 4:
        raise ValueError("not an uncompressed P-256 point")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def p256_point(key: ec.EllipticCurvePublicKey) -> bytes:
    n = key.public_numbers()
    return b"\x04" + n.x.to_bytes(32, "big") + n.y.to_bytes(32, "big")
