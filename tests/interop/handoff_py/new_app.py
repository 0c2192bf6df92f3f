"""The new app (section 11.3): scans, joins, shows the check code, receives the credential."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from . import derivations as d
from . import hpke, qr
from .channel import Binding, NewChannel, public_key_matches
from .contents import Device
from .control import Message, to_base64url
from .frames import CREDENTIAL, NEW_TO_OLD, REPLY, Delivery, Fatal, Header
from .hpke import OpenError
from .relay import Link

SUITES = (1,)

Emit = Callable[..., None]


@dataclass(frozen=True)
class NewConfig:
    policy: qr.RelayPolicy
    device: Device
    drop_after: int | None = None  # for tests: lose the connection after so many data frames


class NewApp:
    def __init__(
        self, config: NewConfig, text: str, emit: Emit, show_code: Callable[[str | None], None]
    ) -> None:
        """Raises qr.Refused if the scanned text is refused."""
        scanned = qr.decode_text(text)
        payload = qr.decode_payload(scanned, SUITES)
        relay_url = config.policy.url(payload)
        qr.check_demands(payload, prox=b"")
        self._config, self._emit, self._show_code = config, emit, show_code
        self._payload = payload
        prk = d.frame_prk(payload.frame_secret)
        self._binding: Binding | None = Binding(
            payload.suite,
            payload.sid,
            payload.frame,
            d.transcript_root(scanned),
            d.psk(prk),
        )
        token = os.urandom(32)
        join: Message = {
            "type": "join",
            "frame": payload.frame,
            "proof": to_base64url(d.join_proof(prk)),
            "resume_hash": to_base64url(d.sha256(token)),
        }
        self._link = Link(relay_url, payload.sid, "new", join, token)
        self._delivery = Delivery(NEW_TO_OLD, self._link.send_data)
        self._channel: NewChannel | None = None
        self._code_visible = False
        self._received = False
        self._data_frames = 0

    async def run(self) -> tuple[str, bytes | None]:
        """The reason, and the credential if it has arrived. Only `completed` confirms it."""
        try:
            reason = await self._link.run(self)
        finally:
            self._take_code_away()
            self._delivery.stop()
        self._emit(
            "ended",
            reason=reason,
            received=self._received,
            confirmed=self._received and reason == "completed",
            connections=self._link.connections,
        )
        credential = None
        if self._received and self._channel is not None:
            credential = self._channel.credential()
        return reason, credential

    def cancel(self, reason: str) -> None:
        self._take_code_away()
        self._delivery.stop()
        self._link.cancel(reason)

    # What the relay says

    def on_control(self, message: Message) -> None:
        match message["type"]:
            case "joined" | "resumed":
                self._emit(message["type"], peer_online=message["peer_online"])
                self._joined(message)
            case "peer_offline":
                self._emit("peer_offline")
                self._delivery.went_offline()
            case "peer_online":
                self._emit("peer_online")
                self._delivery.went_online()

    def _joined(self, message: Message) -> None:
        pk: bytes = message["public_key"]
        if not public_key_matches(self._payload.suite, pk, self._payload.pk_hash):
            self.cancel("verification_failed")
            return
        self._delivery.peer_known()
        self._link.peer_known = True
        if self._binding is not None:
            self._channel = NewChannel(self._binding, hpke.encap(pk), self._config.device)
            self._binding = None
            self._delivery.send(self._channel.hello_frame)
        if message["peer_online"]:
            self._delivery.went_online()

    def on_lost(self) -> None:
        self._delivery.went_offline()

    # What the old app says

    def on_data(self, frame: bytes) -> None:
        try:
            header = self._delivery.receive(frame)
            if header is not None:
                self._take(header, frame[:12], frame[12:])
        except (Fatal, OpenError):
            if not self._received:  # afterwards there is nothing to lose: drop it and wait
                self.cancel("verification_failed")
        self._data_frames += 1
        if self._data_frames == self._config.drop_after:
            self._emit("dropping")
            self._link.drop()

    def _take(self, header: Header, raw: bytes, body: bytes) -> None:
        assert self._channel is not None
        if header.seq == 0 and header.type == REPLY:
            device, code = self._channel.open_reply(raw, body)
            self._delivery.accept()
            self._emit("reply", model=device.model, version=device.version)
            self._code_visible = True
            self._show_code(code)
            self._emit("code", code=code)
        elif header.seq >= 1 and header.type == CREDENTIAL:
            last = self._channel.open_credential(header.seq, raw, body)
            self._take_code_away()
            self._delivery.accept()
            if last:
                self._received = True
                self._link.expect_completion()
                self._emit("received", bytes=len(self._channel.credential()))
                self._delivery.send(self._channel.receipt_frame())
        else:
            raise Fatal("type")

    def _take_code_away(self) -> None:
        if self._code_visible:
            self._code_visible = False
            self._show_code(None)
