"""One party's connection to the relay: open or join, lose it, resume (sections 7, 9 and 10)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
)

from .control import (
    MAX_LIFETIME_MS,
    REASON_BY_CODE,
    REASONS,
    BadMessage,
    Message,
    parse,
    to_base64url,
)

SUBPROTOCOL = "handoff.v1"
MAX_FRAME_BYTES = 65_536
CONNECT_TIMEOUT = 10.0
PING_INTERVAL, PONG_TIMEOUT = 5.0, 4.0
CANCEL_PATIENCE = 10.0
CLOSE_PATIENCE = 1.0
ANSWER_PATIENCE = 10.0
OVERDUE = 2.0  # how long past its deadline an app waits for `ended`

ANSWERS = {"open": "opened", "join": "joined", "resume": "resumed"}


@dataclass(frozen=True)
class Outcome:
    """How a connection, or an attempt at one, ended."""

    label: str
    final: bool
    wait: float = 0.0
    attempted: bool = True  # the first message of the connection may have reached the relay


class Handler(Protocol):
    """An app's state machine. Nothing here waits; it acts through the link."""

    def on_control(self, message: Message) -> None: ...

    def on_data(self, frame: bytes) -> None: ...

    def on_lost(self) -> None: ...

    def cancel(self, reason: str) -> None: ...


class _NoRedirects(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        return exc


def outcome_of_ended(message: Message) -> Outcome:
    label = message["reason"]
    wait = message.get("retry_after_ms", 0) / 1000
    known = REASONS.get(label)
    if known is None:
        return Outcome(label, not message["retry"], wait)
    return Outcome(label, known.ends_session or not known.retry, wait)


def outcome_of_close(code: int | None) -> Outcome:
    """Of a close without `ended`. Code 1000 needs more thought, see `Link`."""
    known = REASON_BY_CODE.get(code) if code is not None else None
    if known is not None and known.label != "completed":
        return Outcome(known.label, known.ends_session or not known.retry)
    if code is not None and 4500 <= code <= 4999:
        return Outcome(f"closed with {code}", True)
    return Outcome("lost", False)


def outcome_of_status(response: Any) -> Outcome:
    status = response.status_code
    retry = status in (408, 425, 429) or 500 <= status <= 599
    after = response.headers.get("Retry-After", "")
    wait = float(after) if after.isdecimal() else 0.0
    return Outcome(f"HTTP status {status}", not retry, wait, attempted=False)


class Link:
    """Keeps one party in its session until the session ends for it."""

    def __init__(
        self,
        relay_url: str,
        sid: bytes,
        role: str,
        first_message: Message,
        resume_token: bytes,
    ) -> None:
        self._url = f"{relay_url.rstrip('/')}/v1/sessions/{uuid.UUID(bytes=sid)}/{role}"
        self._role = role
        self._first_message = first_message
        self._resume_message = {"type": "resume", "token": to_base64url(resume_token)}
        self._outgoing: asyncio.Queue[str | bytes] | None = None
        self._socket: ClientConnection | None = None
        self._seen = False  # opened or joined, or resumed in its place, in this session
        self._awaited: str | None = None  # the answer to the first message of this connection
        self._deadline = self._now() + MAX_LIFETIME_MS / 1000
        self._timeout: asyncio.Timeout | None = None
        self._parting: str | None = None  # what to say again until `ended` is heard
        self._parted_here = False
        self._may_complete = False
        self._cancelled: str | None = None
        self._cancel_until = 0.0
        self._failures = 0
        self._said_at = 0.0  # when the first message of this connection was said
        self._data_at = 0.0
        self._answered, self._ping_wanted = asyncio.Event(), asyncio.Event()
        self.peer_known = False
        self.proven_at: float | None = None  # what the relay had sent before has been heard
        self.connections = 0

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # For the handler

    def send_data(self, frame: bytes) -> None:
        if self._outgoing is not None and self._cancelled is None:
            self._outgoing.put_nowait(frame)

    def cancel(self, reason: str) -> None:
        if self._cancelled is None:
            self._cancelled = reason
            self._part(_message("cancel", reason=reason))
            self._cancel_until = self._now() + CANCEL_PATIENCE
            asyncio.get_running_loop().call_later(CANCEL_PATIENCE, self.drop)

    def complete(self) -> None:
        self._may_complete = True
        self._part(_message("complete"))

    def expect_completion(self) -> None:
        """New has opened the last chunk: from now on `completed` can be true."""
        self._may_complete = True

    def drop(self) -> None:
        """Loses the connection without a word, as a failing network does."""
        if self._socket is not None:
            self._socket.transport.abort()

    def want_ping(self) -> None:
        """A ping now, or as soon as the one before is answered."""
        self._ping_wanted.set()

    def _part(self, text: str) -> None:
        self._parting = text
        if self._outgoing is not None:
            self._parted_here = True
            self._outgoing.put_nowait(text)
            self.want_ping()

    # The life of the link

    async def run(self, handler: Handler) -> str:
        """Returns the reason with which the attempt ended."""
        message, tried_first, resumed_instead = self._first_message, False, False
        while True:
            outcome = await self._connection(message, handler)
            handler.on_lost()
            if outcome.attempted and message is self._first_message:
                if outcome.label == "already_open" and tried_first and not resumed_instead:
                    resumed_instead = True
                    outcome = Outcome("already_open", False)
                tried_first = True
            if outcome.label == "stale_frame":
                return outcome.label
            if outcome.label == "nothing_to_resume":
                if self._seen or resumed_instead:
                    return outcome.label
                message = self._first_message
            elif outcome.final:
                return outcome.label
            elif outcome.attempted and not self._refused(message, outcome):
                message = self._resume_message
            if self._cancelled is not None and not (
                self._seen and self._now() < self._cancel_until
            ):
                return self._cancelled
            longest = min(0.1 * 2**self._failures, 5.0)
            wait = max(random.uniform(longest / 2, longest), outcome.wait)
            self._failures += 1
            if self._now() + wait >= self._deadline + OVERDUE:
                return self._cancelled or "expired"
            await asyncio.sleep(wait)

    def _refused(self, message: Message, outcome: Outcome) -> bool:
        """Whether the relay has said that it opened or joined nothing (section 9.3 rule 2)."""
        unanswered = message is self._first_message and self._awaited is not None
        return unanswered and outcome.label == "overloaded"

    async def _connection(self, message: Message, handler: Handler) -> Outcome:
        try:
            socket = await _NoRedirects(
                self._url,
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
                compression=None,
                proxy=None,
                max_size=MAX_FRAME_BYTES,
                open_timeout=CONNECT_TIMEOUT,
                ping_interval=None,  # this app pings by itself, see `_ping`
            )
        except InvalidStatus as e:
            return outcome_of_status(e.response)
        except ssl.SSLCertVerificationError:
            return Outcome("certificate refused", True, attempted=False)
        except (OSError, TimeoutError, InvalidMessage):
            return Outcome("lost", False, attempted=False)
        except InvalidHandshake as e:
            return Outcome(f"handshake: {type(e).__name__}", True, attempted=False)
        if socket.subprotocol != SUBPROTOCOL:
            await socket.close()
            return Outcome("subprotocol not selected", True, attempted=False)
        self.connections += 1
        self._socket = socket
        self._outgoing = asyncio.Queue()
        self._outgoing.put_nowait(_text(message))
        self._awaited = ANSWERS[message["type"]]
        self._parted_here = False
        self._said_at = self._now()
        self._answered, self._ping_wanted = asyncio.Event(), asyncio.Event()
        pinger = asyncio.create_task(self._ping(socket))
        writer = asyncio.create_task(self._write(socket, self._outgoing))
        try:
            return await self._read(socket, handler)
        finally:
            self._socket = self._outgoing = None
            writer.cancel()
            pinger.cancel()
            await socket.close()

    @staticmethod
    async def _write(socket: ClientConnection, outgoing: asyncio.Queue[str | bytes]) -> None:
        try:
            while True:
                await socket.send(await outgoing.get())
        except ConnectionClosed:
            pass

    async def _ping(self, socket: ClientConnection) -> None:
        """Drops the connection if a ping is not answered (section 7.4)."""
        try:
            await self._answered.wait()
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_INTERVAL):
                        await self._ping_wanted.wait()
                self._ping_wanted.clear()
                sent_at = self._now()
                pong = await socket.ping()
                while not pong.done():
                    left = max(sent_at, self._data_at) + PONG_TIMEOUT - self._now()
                    if left <= 0:
                        socket.transport.abort()
                        return
                    await asyncio.wait([pong], timeout=left)
                await pong
                self.proven_at = sent_at
        except ConnectionClosed:
            pass

    async def _read(self, socket: ClientConnection, handler: Handler) -> Outcome:
        try:
            async with asyncio.timeout_at(self._patience()) as self._timeout:
                while True:
                    received = await socket.recv()
                    if isinstance(received, bytes):
                        if self.peer_known:
                            self._data_at = self._now()
                        if self._cancelled is None:
                            handler.on_data(received)
                    elif (outcome := self._hear(received, handler)) is not None:
                        await self._closed(socket)
                        return outcome
        except ConnectionClosed as e:
            code = e.rcvd.code if e.rcvd is not None else None
            if code == REASONS["completed"].code and self._may_complete:
                return Outcome("completed", True)
            return outcome_of_close(code)
        except TimeoutError:
            if self._now() >= self._deadline + OVERDUE:
                return Outcome("expired", True)
            return Outcome("lost", False)

    def _patience(self) -> float:
        """Until when to wait for the relay: for its answer, or for the end of the session."""
        end = self._deadline + OVERDUE
        return end if self._awaited is None else min(end, self._now() + ANSWER_PATIENCE)

    async def _closed(self, socket: ClientConnection) -> None:
        """After `ended`: nothing more is sent, and the relay closes first."""
        self._outgoing = None
        try:
            async with asyncio.timeout(CLOSE_PATIENCE):
                await socket.wait_closed()
        except TimeoutError:
            pass

    def _hear(self, text: str, handler: Handler) -> Outcome | None:
        try:
            message = parse(text, self._role)
            if message["type"] == "ended":
                return self._ended(message)
            if message["type"] in ANSWERS.values():
                self._take_answer(message)
        except BadMessage:
            if self._cancelled is None:
                handler.cancel("verification_failed")
            return None
        if "expires_in_ms" in message and message["type"] in ("tick", *ANSWERS.values()):
            left: int = message["expires_in_ms"]
            self._deadline = min(self._deadline, self._now() + left / 1000)
            if self._timeout is not None:
                self._timeout.reschedule(self._patience())
        if self._cancelled is None:
            handler.on_control(message)
        if message["type"] in ANSWERS.values():
            self.proven_at = self._said_at
            self._answered.set()
        return None

    def _take_answer(self, message: Message) -> None:
        if message["type"] != self._awaited:
            raise BadMessage("an answer that does not fit")
        self._awaited = None
        self._seen = True
        self._failures = 0
        if self._parting is not None and not self._parted_here:
            self._part(self._parting)

    def _ended(self, message: Message) -> Outcome:
        outcome = outcome_of_ended(message)
        if outcome.label == "completed" and not self._may_complete:
            return Outcome("completed too early", True)
        return outcome


def _message(kind: str, **fields: Any) -> str:
    return _text({"type": kind, **fields})


def _text(message: Message) -> str:
    return json.dumps(message, separators=(",", ":"))
