"""Control messages (section 8) and close reasons (section 10)."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any

MAX_LIFETIME_MS = 180_000
NETWORKS = ("same_address", "same_network", "different", "unknown")
COUNTRIES = ("same", "different", "unknown")

Message = dict[str, Any]


class BadMessage(Exception):
    """What the relay sent is no message, or one that cannot be: cancel, verification_failed."""


def to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if to_base64url(data) != text:
        raise ValueError("bits left over that are not zero")
    return data


# Reading what the relay sends


def _integer(m: Message, name: str, low: int, high: int | None) -> None:
    value = m.get(name)
    if type(value) is not int or value < low or (high is not None and value > high):
        raise BadMessage(name)


def _boolean(m: Message, name: str) -> None:
    if type(m.get(name)) is not bool:
        raise BadMessage(name)


def _string(m: Message, name: str, allowed: tuple[str, ...] | None = None) -> None:
    value = m.get(name)
    if not isinstance(value, str) or (allowed is not None and value not in allowed):
        raise BadMessage(name)


def _public_key(m: Message) -> None:
    _string(m, "public_key")
    try:
        m["public_key"] = from_base64url(m["public_key"])
    except ValueError as e:
        raise BadMessage("public_key") from e
    if not 1 <= len(m["public_key"]) <= 2048:
        raise BadMessage("public_key")


def _join_facts(m: Message) -> None:
    _integer(m, "frame", 0, 179)
    _string(m, "network", NETWORKS)
    _string(m, "country", COUNTRIES)


def parse(text: str, role: str) -> Message:
    """A message from the relay to `role`, with `public_key` as bytes.

    Of a type that this app does not know, only `type` is looked at.
    """
    try:
        m = json.loads(text)
    except ValueError as e:
        raise BadMessage("not JSON") from e
    if not isinstance(m, dict) or not isinstance(m.get("type"), str):
        raise BadMessage("no type")
    match m["type"]:
        case "opened" | "tick":
            _integer(m, "expires_in_ms", 0, MAX_LIFETIME_MS)
        case "joined":
            _integer(m, "expires_in_ms", 0, MAX_LIFETIME_MS)
            _boolean(m, "peer_online")
            _public_key(m)
        case "resumed":
            _integer(m, "expires_in_ms", 0, MAX_LIFETIME_MS)
            _boolean(m, "peer_online")
            if role == "new":
                _public_key(m)
            elif "joined" in m:
                if not isinstance(m["joined"], dict):
                    raise BadMessage("joined")
                _join_facts(m["joined"])
        case "peer_joined":
            _join_facts(m)
        case "ended":
            _string(m, "reason")
            _string(m, "detail")
            _boolean(m, "retry")
            if "retry_after_ms" in m:
                _integer(m, "retry_after_ms", 0, None)
    return m


# Close reasons


@dataclass(frozen=True)
class Reason:
    code: int
    label: str
    ends_session: bool

    @property
    def retry(self) -> bool:
        return code_says_retry(self.code)


def code_says_retry(code: int) -> bool:
    return 1011 <= code <= 1013 or 4000 <= code <= 4499


_SESSION = {
    1000: "completed",
    4500: "expired",
    4501: "scanned_twice",
    4502: "cancelled_by_old",
    4503: "cancelled_by_new",
    4504: "wrong_code",
    4505: "code_timeout",
    4506: "verification_failed",
    4507: "network_refused",
    4508: "quota_exceeded",
    4509: "too_many_resumes",
}
_CONNECTION = {
    1002: "protocol_error",
    1009: "too_large",
    1011: "internal_error",
    1012: "going_away",
    1013: "overloaded",
    4000: "stale_frame",
    4001: "nothing_to_resume",
    4002: "first_message_timeout",
    4003: "unresponsive",
    4004: "too_slow",
    4005: "crowded",
    4520: "malformed_message",
    4521: "unexpected_message",
    4522: "unexpected_data",
    4523: "fragmented",
    4524: "already_open",
    4525: "bad_offer",
    4526: "unauthorized",
    4527: "unknown_session",
    4528: "bad_join_proof",
    4529: "superseded",
    4530: "flooding",
}
REASONS = {label: Reason(code, label, True) for code, label in _SESSION.items()} | {
    label: Reason(code, label, False) for code, label in _CONNECTION.items()
}
REASON_BY_CODE = {reason.code: reason for reason in REASONS.values()}
