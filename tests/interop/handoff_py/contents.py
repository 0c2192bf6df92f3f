"""What is inside the sealed frames: padding, hello, reply, chunks (sections 5.2 to 5.6)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from . import derivations as d
from .hpke import OpenError

PAD_STEP = 1024
MAX_CHUNK_DATA = 4084
MAX_CREDENTIAL_BYTES = 262_144
MAX_NAME_BYTES = 64
NONCE_BYTES = 32


def pad(plaintext: bytes) -> bytes:
    out = d.u32(len(plaintext)) + plaintext
    return out + bytes(-len(out) % PAD_STEP)


def unpad(padded: bytes) -> bytes:
    if len(padded) < 4:
        raise OpenError
    size = int.from_bytes(padded[:4], "big")
    total = PAD_STEP * -(-(4 + size) // PAD_STEP)
    if len(padded) != total or any(padded[4 + size :]):
        raise OpenError
    return padded[4 : 4 + size]


@dataclass(frozen=True)
class Device:
    """What an app claims about itself: text of at most 64 bytes each."""

    model: str
    version: str

    def encode(self) -> bytes:
        return _encode_name(self.model) + _encode_name(self.version)


def _encode_name(text: str) -> bytes:
    raw = text.encode("utf-8")
    _check_name(text, raw)
    return d.u8(len(raw)) + raw


def _check_name(text: str, raw: bytes) -> None:
    if len(raw) > MAX_NAME_BYTES or any(unicodedata.category(c) == "Cc" for c in text):
        raise OpenError


class _Fields:
    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, size: int) -> bytes:
        if len(self._rest) < size:
            raise OpenError
        out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def name(self) -> str:
        raw = self.take(self.integer(1))
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as e:
            raise OpenError from e
        _check_name(text, raw)
        return text

    def rest(self) -> bytes:
        out, self._rest = self._rest, b""
        return out

    def end(self) -> None:
        if self._rest:
            raise OpenError


@dataclass(frozen=True)
class Hello:
    spk: bytes
    device: Device
    nonce: bytes

    def encode(self) -> bytes:
        return d.u16(len(self.spk)) + self.spk + self.device.encode() + self.nonce

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        f = _Fields(data)
        if f.integer(2) != 65:
            raise OpenError
        spk = f.take(65)
        try:
            d.p256_public_key(spk)
        except ValueError as e:
            raise OpenError from e
        device = Device(f.name(), f.name())
        nonce = f.take(NONCE_BYTES)
        f.end()
        return cls(spk, device, nonce)


def decode_reply(data: bytes) -> Device:
    f = _Fields(data)
    device = Device(f.name(), f.name())
    f.end()
    return device


@dataclass(frozen=True)
class Chunk:
    total: int
    offset: int
    data: bytes

    def encode(self) -> bytes:
        return d.u32(self.total) + d.u32(self.offset) + self.data

    @classmethod
    def decode(cls, plaintext: bytes) -> Chunk:
        f = _Fields(plaintext)
        return cls(f.integer(4), f.integer(4), f.rest())


def cut(credential: bytes) -> list[Chunk]:
    total = len(credential)
    assert total <= MAX_CREDENTIAL_BYTES
    return [
        Chunk(total, at, credential[at : at + MAX_CHUNK_DATA])
        for at in range(0, max(total, 1), MAX_CHUNK_DATA)
    ]


class Assembly:
    """New's side of section 5.6: the credential as it arrives."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._data = bytearray()
        self.complete = False

    def add(self, chunk: Chunk) -> None:
        if self.complete or chunk.total > MAX_CREDENTIAL_BYTES:
            raise OpenError
        if self._total is None:
            self._total = chunk.total
        if chunk.total != self._total or chunk.offset != len(self._data):
            raise OpenError
        if len(chunk.data) > MAX_CHUNK_DATA or chunk.offset + len(chunk.data) > self._total:
            raise OpenError
        if not chunk.data and self._total != 0:
            raise OpenError
        self._data += chunk.data
        self.complete = len(self._data) == self._total

    def credential(self) -> bytes:
        assert self.complete
        return bytes(self._data)
