"""The channel (section 5): what old and new seal for each other. No input or output here."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import derivations as d
from . import hpke, hybrid
from .contents import NONCE_BYTES, Assembly, Chunk, Device, Hello, decode_reply, pad, unpad
from .frames import CREDENTIAL, HELLO, NEW_TO_OLD, OLD_TO_NEW, RECEIPT, REPLY, Header
from .hpke import OpenError

PUBLIC_KEY_CHECKS = {1: d.p256_public_key, 2: hybrid.check_public_key}


def public_key_matches(suite: int, pk: bytes, pk_hash: bytes) -> bool:
    """Section 5.3: the hash, the length and the validity of old's public key."""
    if not hmac.compare_digest(d.pk_hash(pk), pk_hash):
        return False
    try:
        PUBLIC_KEY_CHECKS[suite](pk)
    except ValueError:
        return False
    return True


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key.sign(message, algorithm))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def verify(spk: bytes, message: bytes, signature: bytes) -> None:
    if len(signature) != 64:
        raise OpenError
    der = encode_dss_signature(
        int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    )
    try:
        d.p256_public_key(spk).verify(der, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as e:
        raise OpenError from e


def hello_transcript(root: bytes, enc: bytes, ct1: bytes) -> bytes:
    return d.sha256(root + enc + d.u32(len(ct1)) + ct1)


def reply_transcript(th1: bytes, rn: bytes, ct2: bytes) -> bytes:
    return d.sha256(th1 + rn + d.u32(len(ct2)) + ct2)


def receipt_message(th2: bytes, digest: bytes) -> bytes:
    return b"handoff/1 receipt" + th2 + digest


class ResponseKeys:
    """k2 and n2 of section 5.4: what old seals with."""

    def __init__(self, context: hpke.Context, enc: bytes, rn: bytes) -> None:
        prk2 = d.hkdf_extract(enc + rn, context.export(b"handoff/1 response", 32))
        self.key = d.hkdf_expand(prk2, b"key", 32)
        self.nonce = d.hkdf_expand(prk2, b"nonce", 12)

    def seal(self, seq: int, aad: bytes, plaintext: bytes) -> bytes:
        return AESGCM(self.key).encrypt(d.xor(self.nonce, d.u96(seq)), plaintext, aad)

    def open(self, seq: int, aad: bytes, ciphertext: bytes) -> bytes:
        try:
            return AESGCM(self.key).decrypt(d.xor(self.nonce, d.u96(seq)), ciphertext, aad)
        except InvalidTag as e:
            raise OpenError from e


def check_code(context: hpke.Context, th2: bytes) -> str:
    return code_digits(context.export(b"handoff/1 code" + th2, 8))


def code_digits(exported: bytes) -> str:
    return str(1000 + int.from_bytes(exported, "big") % 9000)


def read_code(typed: str) -> str | None:
    """What a person typed, without white space; None if it is a slip and no try."""
    text = "".join(typed.split())
    return text if re.fullmatch("[1-9][0-9]{3}", text) else None


@dataclass(frozen=True)
class Binding:
    """What both apps know from the QR code and the relay before the first sealed frame."""

    suite: int
    sid: bytes
    frame: int
    root: bytes
    psk: bytes

    def __post_init__(self) -> None:
        if len(self.psk) != 32:
            raise ValueError("a pre-shared key has 32 bytes")

    def context(self, shared_secret: bytes) -> hpke.Context:
        kem_id = hpke.SUITE_KEM[self.suite]
        return hpke.Context(kem_id, shared_secret, self.info, self.psk, self.psk_id)

    @property
    def info(self) -> bytes:
        return d.hpke_info(self.suite, self.root)

    @property
    def psk_id(self) -> bytes:
        return d.hpke_psk_id(self.sid, self.frame)


class NewChannel:
    def __init__(
        self,
        binding: Binding,
        encapsulated: tuple[bytes, bytes],
        device: Device,
        *,
        signing_key: ec.EllipticCurvePrivateKey | None = None,
        nonce: bytes | None = None,
    ) -> None:
        """Makes the hello from (shared secret, enc). The keyword arguments are for vectors."""
        self._sid = binding.sid
        self._signing_key = signing_key or ec.generate_private_key(ec.SECP256R1())
        shared_secret, self._enc = encapsulated
        self._context = binding.context(shared_secret)
        spk = d.p256_point(self._signing_key.public_key())
        hello = Hello(spk, device, nonce if nonce is not None else os.urandom(NONCE_BYTES))
        header = Header(NEW_TO_OLD, HELLO, 0).encode()
        ct1 = self._context.seal(header + self._sid, pad(hello.encode()))
        self.hello_frame = header + d.u16(len(self._enc)) + self._enc + ct1
        self.th1 = hello_transcript(binding.root, self._enc, ct1)
        self.th2: bytes | None = None
        self._keys: ResponseKeys | None = None
        self._assembly = Assembly()

    def open_reply(self, header: bytes, body: bytes) -> tuple[Device, str]:
        """(old's device, check code)"""
        if len(body) < 32:
            raise OpenError
        rn, ct2 = body[:32], body[32:]
        keys = ResponseKeys(self._context, self._enc, rn)
        device = decode_reply(unpad(keys.open(0, header + self._sid + self.th1, ct2)))
        self._keys = keys
        self.th2 = reply_transcript(self.th1, rn, ct2)
        return device, check_code(self._context, self.th2)

    def open_credential(self, seq: int, header: bytes, body: bytes) -> bool:
        """Takes one chunk; True when it was the last."""
        assert self._keys is not None and self.th2 is not None
        plaintext = unpad(self._keys.open(seq, header + self._sid + self.th2, body))
        self._assembly.add(Chunk.decode(plaintext))
        return self._assembly.complete

    def credential(self) -> bytes:
        return self._assembly.credential()

    def receipt_frame(self) -> bytes:
        assert self.th2 is not None
        digest = d.sha256(self._assembly.credential())
        receipt = digest + sign(self._signing_key, receipt_message(self.th2, digest))
        header = Header(NEW_TO_OLD, RECEIPT, 1).encode()
        return header + self._context.seal(header + self._sid + self.th2, pad(receipt))


class OldChannel:
    def __init__(
        self, binding: Binding, decap: Callable[[bytes], bytes], header: bytes, body: bytes
    ) -> None:
        """Opens the hello. That is tried once in a session, whatever comes of it."""
        if len(body) < 2:
            raise OpenError
        size = int.from_bytes(body[:2], "big")
        if size != d.SUITE_ENC_BYTES[binding.suite] or len(body) < 2 + size:
            raise OpenError
        self._sid = binding.sid
        self._enc, ct1 = body[2 : 2 + size], body[2 + size :]
        self._context = binding.context(decap(self._enc))
        self.hello = Hello.decode(unpad(self._context.open(header + self._sid, ct1)))
        self.th1 = hello_transcript(binding.root, self._enc, ct1)
        self.th2: bytes | None = None
        self._code: str | None = None
        self._keys: ResponseKeys | None = None

    def reply_frame(self, device: Device, rn: bytes | None = None) -> bytes:
        rn = rn if rn is not None else os.urandom(32)
        self._keys = ResponseKeys(self._context, self._enc, rn)
        header = Header(OLD_TO_NEW, REPLY, 0).encode()
        ct2 = self._keys.seal(0, header + self._sid + self.th1, pad(device.encode()))
        self.th2 = reply_transcript(self.th1, rn, ct2)
        self._code = check_code(self._context, self.th2)
        return header + rn + ct2

    def is_code(self, code: str) -> bool:
        assert self._code is not None
        return hmac.compare_digest(code.encode(), self._code.encode())

    def credential_frame(self, seq: int, chunk: Chunk) -> bytes:
        assert self._keys is not None and self.th2 is not None
        header = Header(OLD_TO_NEW, CREDENTIAL, seq).encode()
        return header + self._keys.seal(seq, header + self._sid + self.th2, pad(chunk.encode()))

    def open_receipt(self, header: bytes, body: bytes, credential: bytes) -> None:
        if self.th2 is None:
            raise OpenError
        receipt = unpad(self._context.open(header + self._sid + self.th2, body))
        digest = d.sha256(credential)
        if len(receipt) != 96 or not hmac.compare_digest(receipt[:32], digest):
            raise OpenError
        verify(self.hello.spk, receipt_message(self.th2, digest), receipt[32:])
