"""The QR code: payload and text (section 3)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Container
from dataclasses import dataclass

VERSION = 1
SUITES = (1, 2)
FLAG_PROXIMITY = 1
FLAG_MUTUAL_SCAN = 2
MAX_FRAME = 179
FIXED_BYTES = 85
MAX_LITERAL_BYTES = 259
PREFIX = "HO:"
MAX_TEXT_CHARS = 688

BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_BASE45_VALUE = {c: i for i, c in enumerate(BASE45)}

# What the person is told (the second column of the table in section 3.1).
UPDATE_APP = "update the app"
SCAN_AGAIN = "scan again"
RELAY_NOT_ALLOWED = "this relay is not allowed"
NOT_A_HANDOFF_CODE = "not a handoff code"
PROXIMITY_MISSING = "proximity is demanded and not available"
MUTUAL_SCAN_UNSUPPORTED = "mutual scan is demanded and not available"


class Refused(Exception):
    """A scanned code that the new app refuses."""

    def __init__(self, told: str, why: str) -> None:
        super().__init__(f"{told}: {why}")
        self.told = told
        self.why = why


def base45_encode(data: bytes) -> str:
    out: list[str] = []
    for i in range(0, len(data) - 1, 2):
        value = data[i] << 8 | data[i + 1]
        out += [BASE45[value % 45], BASE45[value // 45 % 45], BASE45[value // 2025]]
    if len(data) % 2:
        out += [BASE45[data[-1] % 45], BASE45[data[-1] // 45]]
    return "".join(out)


def base45_decode(text: str) -> bytes:
    if len(text) % 3 == 1:
        raise ValueError("a length of 3n + 1")
    try:
        digits = [_BASE45_VALUE[c] for c in text]
    except KeyError as e:
        raise ValueError("a character outside the alphabet") from e
    out = bytearray()
    for i in range(0, len(digits), 3):
        group = digits[i : i + 3]
        value = sum(d * 45**k for k, d in enumerate(group))
        size = len(group) - 1
        if value >= 256**size:
            raise ValueError("a group that is too large")
        out += value.to_bytes(size, "big")
    return bytes(out)


def is_uuid4(sid: bytes) -> bool:
    return len(sid) == 16 and sid[6] >> 4 == 4 and sid[8] >> 6 == 0b10


def split_literal(literal: str) -> tuple[str, int | None]:
    """Host and port of a literal relay; ValueError if it is not valid."""
    if not 1 <= len(literal) <= MAX_LITERAL_BYTES:
        raise ValueError("length")
    if not re.fullmatch(r"[A-Za-z0-9.\-:\[\]]+", literal):
        raise ValueError("character")
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([1-9][0-9]{0,4}))?", literal)
    if not found:
        raise ValueError("neither host nor host:port")
    host, port_text = found[1], found[2]
    port = int(port_text) if port_text is not None else None
    if port is not None and port > 65535:
        raise ValueError("port")
    if host.startswith("["):
        ipaddress.IPv6Address(host[1:-1])
        return host, port
    labels = host.split(".")
    if re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", labels[-1]):
        ipaddress.IPv4Address(host)
    elif len(host) > 253 or not all(
        re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", x) for x in labels
    ):
        raise ValueError("not a DNS name")
    return host, port


@dataclass(frozen=True)
class Payload:
    suite: int
    flags: int
    frame: int
    sid: bytes
    frame_secret: bytes
    pk_hash: bytes
    relay_id: int
    literal: str = ""

    def encode(self) -> bytes:
        assert len(self.sid) == 16 and len(self.frame_secret) == 32 and len(self.pk_hash) == 32
        assert (self.relay_id == 0) == bool(self.literal)
        return (
            bytes([VERSION, self.suite, self.flags, self.frame])
            + self.sid
            + self.frame_secret
            + self.pk_hash
            + bytes([self.relay_id])
            + self.literal.encode("ascii")
        )

    @property
    def proximity(self) -> bool:
        return bool(self.flags & FLAG_PROXIMITY)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, size: int) -> bytes:
        if len(self.rest) < size:
            raise Refused(SCAN_AGAIN, "fewer bytes than the fields need")
        out, self.rest = self.rest[:size], self.rest[size:]
        return out

    def byte(self) -> int:
        return self.take(1)[0]


def decode_payload(data: bytes, suites: Container[int] = SUITES) -> Payload:
    """Reads the fields in order; refuses what can be refused without the app's configuration."""
    r = _Reader(data)
    if r.byte() != VERSION:
        raise Refused(UPDATE_APP, "version")
    suite = r.byte()
    if suite not in suites:
        raise Refused(UPDATE_APP, "suite")
    flags = r.byte()
    if flags & ~(FLAG_PROXIMITY | FLAG_MUTUAL_SCAN):
        raise Refused(UPDATE_APP, "unknown flag")
    frame = r.byte()
    if frame > MAX_FRAME:
        raise Refused(SCAN_AGAIN, "frame number")
    sid = r.take(16)
    if not is_uuid4(sid):
        raise Refused(SCAN_AGAIN, "session id")
    frame_secret, pk_hash = r.take(32), r.take(32)
    relay_id = r.byte()
    literal = ""
    if relay_id != 0 and r.rest:
        raise Refused(SCAN_AGAIN, "bytes after the relay id")
    if relay_id == 0:
        try:
            literal = r.rest.decode("ascii")
            split_literal(literal)
        except ValueError as e:
            raise Refused(RELAY_NOT_ALLOWED, f"literal: {e}") from e
    return Payload(suite, flags, frame, sid, frame_secret, pk_hash, relay_id, literal)


def check_demands(payload: Payload, prox: bytes) -> None:
    """What the flags demand of the new app, and what it has."""
    if payload.flags & FLAG_MUTUAL_SCAN:
        raise Refused(MUTUAL_SCAN_UNSUPPORTED, "flag bit 1")
    if payload.proximity and not prox:
        raise Refused(PROXIMITY_MISSING, "flag bit 0")


def encode_text(payload: bytes) -> str:
    return PREFIX + base45_encode(payload)


def decode_text(text: str) -> bytes:
    text = text.strip()
    if not text.startswith(PREFIX):
        raise Refused(NOT_A_HANDOFF_CODE, "prefix")
    body = text[len(PREFIX) :]
    if len(body) > MAX_TEXT_CHARS:
        raise Refused(SCAN_AGAIN, "too long")
    try:
        return base45_decode(body)
    except ValueError as e:
        raise Refused(SCAN_AGAIN, f"Base45: {e}") from e


@dataclass(frozen=True)
class RelayPolicy:
    """Which relays an app knows: its list, and the literals its configuration allows."""

    listed: dict[int, str]
    allows_literal: Callable[[str], bool]

    def url(self, payload: Payload) -> str:
        if payload.relay_id != 0:
            if payload.relay_id not in self.listed:
                raise Refused(UPDATE_APP, "relay id")
            return self.listed[payload.relay_id]
        host, _ = split_literal(payload.literal)
        if not self.allows_literal(host):
            raise Refused(RELAY_NOT_ALLOWED, "host")
        scheme = "ws" if is_loopback(host) else "wss"
        return f"{scheme}://{payload.literal}"


def is_loopback(host: str) -> bool:
    """Plain ws:// is for tests on a loopback address only (section 3.1)."""
    if host.startswith("["):
        return ipaddress.IPv6Address(host[1:-1]) == ipaddress.IPv6Address("::1")
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False
