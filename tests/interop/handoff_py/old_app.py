"""The old app (section 11.2): shows the code, asks for the check code, sends the credential."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from . import derivations as d
from . import hpke, qr
from .channel import Binding, OldChannel, read_code
from .contents import Chunk, Device, cut
from .control import Message, to_base64url
from .frames import HELLO, OLD_TO_NEW, RECEIPT, Delivery, Fatal, Header
from .hpke import OpenError
from .relay import Link

CHECK_CODE_TIMEOUT = 60.0
SUITE = 1

Emit = Callable[..., None]


@dataclass(frozen=True)
class OldConfig:
    relay_url: str
    relay_id: int
    literal: str
    device: Device
    lifetime_ms: int = 180_000
    interval_ms: int = 5_000
    token: str | None = None
    drop_after: int | None = None  # for tests: lose the connection after so many data frames

    @property
    def frames(self) -> int:
        return -(-self.lifetime_ms // self.interval_ms)


def new_sid() -> bytes:
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


class FrameClock:
    """Section 3.3: which frame to show, never ahead of the relay and never backwards."""

    def __init__(self, lifetime_ms: int, interval_ms: int, now: Callable[[], float]) -> None:
        self._lifetime, self._interval, self._now = lifetime_ms, interval_ms, now
        self._origin: float | None = None  # the clock reading at which `opened` was, in ms
        self.shown = -1

    def hear(self, expires_in_ms: int) -> None:
        origin = self._now() * 1000 - (self._lifetime - expires_in_ms)
        self._origin = origin if self._origin is None else min(self._origin, origin)

    def current(self) -> int:
        assert self._origin is not None
        last = -(-self._lifetime // self._interval) - 1
        at = int((self._now() * 1000 - self._origin) // self._interval)
        self.shown = max(self.shown, min(at, last))
        return self.shown

    def seconds_to_next(self) -> float:
        assert self._origin is not None
        return max((self._origin + (self.shown + 1) * self._interval) / 1000 - self._now(), 0.001)

    def known(self, proven_at: float) -> int:
        """The frame that was due then."""
        assert self._origin is not None
        return int((proven_at * 1000 - self._origin) // self._interval)

    def acceptable(self, frame: int, proven_at: float | None) -> bool:
        """`proven_at`: when the newest question was asked that the relay has answered."""
        newest = self.shown
        if proven_at is not None:
            newest = min(newest, self.known(proven_at) + 1)
        return newest - 2 <= frame <= self.shown


class OldApp:
    def __init__(
        self,
        config: OldConfig,
        credential: bytes,
        emit: Emit,
        show: Callable[[str | None], None],
        ask_code: Callable[[], Awaitable[str]],
    ) -> None:
        self._config, self._credential = config, credential
        self._emit, self._show, self._ask_code = emit, show, ask_code
        self._sid = new_sid()
        self._session_prk = os.urandom(32)
        self._sk: ec.EllipticCurvePrivateKey | None = ec.generate_private_key(ec.SECP256R1())
        self._pk = d.p256_point(self._sk.public_key())
        token = os.urandom(32)
        self._link = Link(config.relay_url, self._sid, "old", self._open_message(token), token)
        self._delivery = Delivery(OLD_TO_NEW, self._link.send_data)
        loop = asyncio.get_running_loop()
        self._clock = FrameClock(config.lifetime_ms, config.interval_ms, loop.time)
        self._frame_timer: asyncio.TimerHandle | None = None
        self._visible = False
        self._join: int | None = None  # the frame that new joined with
        self._binding: Binding | None = None
        self._channel: OldChannel | None = None
        self._code_task: asyncio.Task[None] | None = None
        self._chunks: list[Chunk] | None = None  # not yet sealed; None before the right code
        self._data_frames = 0
        self.delivered = False

    def _open_message(self, token: bytes) -> Message:
        proofs = [d.join_proof(self._prk(f)) for f in range(self._config.frames)]
        message: Message = {
            "type": "open",
            "public_key": to_base64url(self._pk),
            "join_hashes": [to_base64url(d.join_hash(proof)) for proof in proofs],
            "interval_ms": self._config.interval_ms,
            "resume_hash": to_base64url(d.sha256(token)),
        }
        if self._config.token is not None:
            message["token"] = self._config.token
        return message

    def _prk(self, frame: int) -> bytes:
        return d.frame_prk(d.frame_secret(self._session_prk, frame))

    def _payload(self, frame: int) -> bytes:
        return qr.Payload(
            SUITE,
            0,
            frame,
            self._sid,
            d.frame_secret(self._session_prk, frame),
            d.pk_hash(self._pk),
            self._config.relay_id,
            self._config.literal,
        ).encode()

    async def run(self) -> str:
        try:
            reason = await self._link.run(self)
        finally:
            self._hide()
            self._delivery.stop()
            if self._code_task is not None:
                self._code_task.cancel()
        self._emit(
            "ended",
            reason=reason,
            delivered=self.delivered,
            connections=self._link.connections,
        )
        return reason

    def cancel(self, reason: str) -> None:
        self._hide()
        self._delivery.stop()
        self._link.cancel(reason)

    # What the relay says

    def on_control(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("opened", "resumed", "tick"):
            self._clock.hear(message["expires_in_ms"])
        match kind:
            case "opened":
                self._emit("opened", expires_in_ms=message["expires_in_ms"])
                self._show_frame()
            case "resumed":
                self._emit("resumed", peer_online=message["peer_online"])
                self._resumed(message)
            case "tick" if self._visible:
                self._show_frame()
            case "peer_joined":
                self._joined(message, online=True)
            case "peer_offline":
                self._emit("peer_offline")
                self._delivery.went_offline()
            case "peer_online" if self._join is not None:
                self._emit("peer_online")
                self._delivery.went_online()

    def _resumed(self, message: Message) -> None:
        if "joined" in message:
            self._joined(message["joined"], online=message["peer_online"])
        elif self._join is not None:
            self.cancel("verification_failed")
        else:
            self._show_frame()

    def _joined(self, facts: Message, online: bool) -> None:
        join: int = facts["frame"]
        if self._join is None:
            self._hide()
            verdict = {name: facts[name] for name in ("network", "country")}
            self._emit("peer_joined", frame=join, **verdict)
            if not self._clock.acceptable(join, self._link.proven_at):
                self.cancel("verification_failed")
                return
            self._join = join
            self._binding = Binding(
                SUITE,
                self._sid,
                join,
                d.transcript_root(self._payload(join)),
                d.psk(self._prk(join)),
            )
        elif self._join != join:
            self.cancel("verification_failed")
            return
        self._delivery.peer_known()
        self._link.peer_known = True
        if online:
            self._delivery.went_online()

    def on_lost(self) -> None:
        self._hide()
        self._delivery.went_offline()

    # The picture

    def _show_frame(self) -> None:
        before = self._clock.shown if self._visible else None
        frame = self._clock.current()
        self._visible = True
        if frame != before:
            proven_at = self._link.proven_at
            if proven_at is None or self._clock.known(proven_at) < frame:
                self._link.want_ping()
            text = qr.encode_text(self._payload(frame))
            self._show(text)
            self._emit("qr", frame=frame, text=text)
        if self._frame_timer is not None:
            self._frame_timer.cancel()
            self._frame_timer = None
        if frame < self._config.frames - 1:
            loop = asyncio.get_running_loop()
            self._frame_timer = loop.call_later(self._clock.seconds_to_next(), self._show_frame)

    def _hide(self) -> None:
        if self._frame_timer is not None:
            self._frame_timer.cancel()
            self._frame_timer = None
        if self._visible:
            self._visible = False
            self._show(None)
            self._emit("qr_hidden")

    # What the new app says

    def on_data(self, frame: bytes) -> None:
        try:
            header = self._delivery.receive(frame)
            if header is not None:
                self._take(header, frame[:12], frame[12:])
            self._pump()
        except (Fatal, OpenError):
            self.cancel("verification_failed")
        self._data_frames += 1
        if self._data_frames == self._config.drop_after:
            self._emit("dropping")
            self._link.drop()

    def _take(self, header: Header, raw: bytes, body: bytes) -> None:
        match header.type, header.seq:
            case (kind, 0) if kind == HELLO:
                self._open_hello(raw, body)
            case (kind, 1) if kind == RECEIPT:
                self._open_receipt(raw, body)
            case _:
                raise Fatal("type")

    def _open_hello(self, raw: bytes, body: bytes) -> None:
        assert self._binding is not None and self._sk is not None
        binding, sk = self._binding, self._sk
        self._binding, self._sk, self._session_prk = None, None, b""
        self._channel = OldChannel(binding, lambda enc: hpke.decap(enc, sk), raw, body)
        self._delivery.accept()
        device = self._channel.hello.device
        self._emit("hello", model=device.model, version=device.version)
        self._delivery.send(self._channel.reply_frame(self._config.device))
        self._code_task = asyncio.create_task(self._check_code())

    async def _check_code(self) -> None:
        assert self._channel is not None
        code: str | None = None
        try:
            async with asyncio.timeout(CHECK_CODE_TIMEOUT):
                while code is None:
                    self._emit("ask_code")
                    code = read_code(await self._ask_code())
        except TimeoutError:
            self.cancel("code_timeout")
            return
        if not self._channel.is_code(code):
            self.cancel("wrong_code")
            return
        self._emit("code_accepted")
        self._chunks = cut(self._credential)
        self._pump()

    def _pump(self) -> None:
        if self._channel is None:
            return
        while self._chunks and self._delivery.has_room():
            chunk = self._chunks.pop(0)
            frame = self._channel.credential_frame(self._delivery.next_seq, chunk)
            self._delivery.send(frame)

    def _open_receipt(self, raw: bytes, body: bytes) -> None:
        if self._channel is None or self._chunks is None or self._chunks:
            raise Fatal("an early receipt")
        self._channel.open_receipt(raw, body, self._credential)
        self._delivery.accept()
        self.delivered = True
        self._emit("receipt")
        self._link.complete()
