"""This implementation against the text: the examples and tables of docs/protocol.md."""

from __future__ import annotations

import os
import re
import unittest
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from handoff_py import channel, control, hpke, qr
from handoff_py import contents as c
from handoff_py import derivations as d
from handoff_py.frames import (
    ACKNOWLEDGEMENT,
    CREDENTIAL,
    HELLO,
    NEW_TO_OLD,
    OLD_TO_NEW,
    Delivery,
    Fatal,
    Header,
)
from handoff_py.hpke import OpenError
from handoff_py.old_app import FrameClock
from handoff_py.relay import Outcome, outcome_of_close, outcome_of_ended

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


class WorkedExample(unittest.TestCase):
    def test_appendix_a(self) -> None:
        appendix = TEXT[TEXT.index("## Appendix A") :]
        given = dict(re.findall(r"^(\w+) = (.*)$", appendix, re.M))

        def b(name: str) -> bytes:
            return bytes.fromhex(given[name])

        secret = d.frame_secret(b("session_prk"), 7)
        prk = d.frame_prk(secret)
        payload = qr.Payload(1, 0, 7, b("sid"), secret, d.pk_hash(b("pk")), 1).encode()
        self.assertEqual(b("frame_secret_7"), secret)
        self.assertEqual(b("prk_7"), prk)
        self.assertEqual(b("join_7"), d.join_proof(prk))
        self.assertEqual(b("join_hash_7"), d.join_hash(d.join_proof(prk)))
        self.assertEqual(b("psk_7"), d.psk(prk))
        self.assertEqual(b("psk_7_prox"), d.psk(prk, bytes(range(16))))
        self.assertEqual(b("P_7"), payload)
        self.assertEqual(b("T_7"), d.transcript_root(payload))
        self.assertEqual(given["text_7"], qr.encode_text(payload))
        self.assertEqual(payload, qr.decode_text(given["text_7"]))
        self.assertEqual(b("info"), d.hpke_info(1, b("T_7")))
        self.assertEqual(b("psk_id"), d.hpke_psk_id(b("sid"), 7))

    def test_examples_of_section_8_belong_to_it(self) -> None:
        secrets = [d.frame_secret(bytes(range(32)), f) for f in range(3)]
        proofs = [d.join_proof(d.frame_prk(x)) for x in secrets]
        for proof in proofs:
            self.assertIn(control.to_base64url(d.join_hash(proof)), TEXT)
        self.assertIn(control.to_base64url(proofs[1]), TEXT)
        for token in (bytes(range(0x40, 0x60)), bytes(range(0x60, 0x80))):
            self.assertIn(control.to_base64url(d.sha256(token)), TEXT)


class ControlMessages(unittest.TestCase):
    def test_examples_are_read(self) -> None:
        examples = re.findall(r"```json relay\n(.*?)\n```", TEXT, re.S)
        self.assertGreater(len(examples), 8)
        for example in examples:
            role = "new" if '"public_key"' in example else "old"
            control.parse(example, role)

    def test_reasons(self) -> None:
        rows = re.findall(r"^\| (\d{4}) \| `(\w+)` \| (\w+) \| (yes|no) \|", TEXT, re.M)
        self.assertEqual(len(control.REASONS), len(rows))
        for code, label, scope, retry in rows:
            reason = control.REASONS[label]
            self.assertEqual(
                (int(code), scope == "session", retry == "yes"),
                (reason.code, reason.ends_session, reason.retry),
            )

    def test_close_without_ended(self) -> None:
        for code, label, final in (
            (None, "lost", False),
            (1000, "lost", False),
            (1001, "lost", False),
            (1006, "lost", False),
            (1008, "lost", False),
            (3000, "lost", False),
            (4499, "lost", False),
            (4999, "closed with 4999", True),
            (1002, "protocol_error", True),
            (1012, "going_away", False),
            (4001, "nothing_to_resume", False),
            (4500, "expired", True),
            (4529, "superseded", True),
        ):
            with self.subTest(code=code):
                self.assertEqual(Outcome(label, final), outcome_of_close(code))

    def test_ended(self) -> None:
        for reason, retry, final in (
            ("completed", False, True),
            ("completed", True, True),
            ("overloaded", True, False),
            ("news", True, False),
            ("news", False, True),
        ):
            with self.subTest(reason=reason, retry=retry):
                message = {"type": "ended", "reason": reason, "retry": retry}
                self.assertEqual(Outcome(reason, final), outcome_of_ended(message))

    def test_refused(self) -> None:
        for text in (
            "[]",
            "{}",
            "{",
            '{"type":"tick"}',
            '{"type":"tick","expires_in_ms":180001}',
            '{"type":"tick","expires_in_ms":-1}',
            '{"type":"tick","expires_in_ms":1.0}',
            '{"type":"tick","expires_in_ms":true}',
            '{"type":"peer_joined","frame":180,"network":"different","country":"same"}',
            '{"type":"peer_joined","frame":1,"network":"near","country":"same"}',
            '{"type":"joined","expires_in_ms":1,"peer_online":true,"public_key":"AA=="}',
            '{"type":"joined","expires_in_ms":1,"peer_online":true,"public_key":"AB"}',
            '{"type":"joined","expires_in_ms":1,"peer_online":true,"public_key":""}',
        ):
            with self.subTest(text=text), self.assertRaises(control.BadMessage):
                control.parse(text, "old")

    def test_unknown_things_are_ignored(self) -> None:
        control.parse('{"type":"news","expires_in_ms":"x"}', "old")
        control.parse('{"type":"tick","expires_in_ms":1,"more":[]}', "old")


class Sizes(unittest.TestCase):
    def test_section_5_8(self) -> None:
        sk = ec.generate_private_key(ec.SECP256R1())
        binding = channel.Binding(1, os.urandom(16), 0, os.urandom(32), os.urandom(32))
        new = channel.NewChannel(
            binding, hpke.encap(d.p256_point(sk.public_key())), c.Device("n", "1")
        )
        old = channel.OldChannel(
            binding, lambda enc: hpke.decap(enc, sk), new.hello_frame[:12], new.hello_frame[12:]
        )
        reply = old.reply_frame(c.Device("o", "2"))
        _, code = new.open_reply(reply[:12], reply[12:])
        self.assertTrue(old.is_code(code))
        chunks = c.cut(bytes(262_144))
        frames = [old.credential_frame(seq, chunk) for seq, chunk in enumerate(chunks, 1)]
        done = [new.open_credential(s, f[:12], f[12:]) for s, f in enumerate(frames, 1)]
        self.assertEqual([False] * 64 + [True], done)
        receipt = new.receipt_frame()
        old.open_receipt(receipt[:12], receipt[12:], bytes(262_144))
        self.assertEqual(1119, len(new.hello_frame))
        self.assertEqual(1084, len(reply))
        self.assertEqual((4124, 1052), (len(frames[0]), len(frames[-1])))
        self.assertEqual(264_988, sum(map(len, frames)))
        self.assertEqual(1052, len(receipt))

    def test_chunks_that_are_refused(self) -> None:
        for chunks in (
            [c.Chunk(262_145, 0, b"x")],
            [c.Chunk(2, 1, b"x")],
            [c.Chunk(1, 0, b"xx")],
            [c.Chunk(1, 0, b"")],
            [c.Chunk(9000, 0, bytes(4085))],
            [c.Chunk(2, 0, b"x"), c.Chunk(3, 1, b"x")],
            [c.Chunk(2, 0, b"x"), c.Chunk(2, 0, b"x")],
            [c.Chunk(1, 0, b"x"), c.Chunk(1, 1, b"")],
            [c.Chunk(0, 0, b""), c.Chunk(0, 0, b"")],
        ):
            with self.subTest(chunks=chunks), self.assertRaises(OpenError):
                assembly = c.Assembly()
                for chunk in chunks:
                    assembly.add(chunk)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Frames(unittest.TestCase):
    def test_frame_clock(self) -> None:
        now = Clock()
        clock = FrameClock(180_000, 5_000, now)
        clock.hear(180_000)
        self.assertEqual(0, clock.current())
        now.now += 4.999
        self.assertEqual(0, clock.current())
        clock.hear(170_000)  # the relay's clock is ahead of the old estimate
        self.assertEqual(2, clock.current())
        clock.hear(180_000)  # a later, smaller estimate does not take it back
        self.assertEqual(2, clock.current())
        accepted = [clock.acceptable(f, now.now) for f in range(4)]
        self.assertEqual([True] * 3 + [False], accepted)
        now.now += 1000
        self.assertEqual(35, clock.current())
        self.assertFalse(clock.acceptable(32, now.now))

    def test_frames_shown_over_a_dead_connection_count_once(self) -> None:
        now = Clock()
        clock = FrameClock(180_000, 5_000, now)
        clock.hear(180_000)
        now.now += 52  # frame 10
        for proven_before, oldest in ((0, 8), (5, 8), (7, 8), (8, 7), (22, 5), (60, 0)):
            self.assertEqual(10, clock.current())
            accepted = [f for f in range(13) if clock.acceptable(f, now.now - proven_before)]
            self.assertEqual(list(range(oldest, 11)), accepted)

    def test_literal(self) -> None:
        for good in ("a", "R.example:8443", "127.0.0.1:1", "[::1]", "[2001:db8::1]:65535"):
            qr.split_literal(good)
        bad = (
            *("", "host.", "a..b", "-a", "a_b", "host:", "host:0", "host:080", "host:65536"),
            *("[]", "::1", "[::1", "127.1", "127.0.0.01", "0x7f000001", "a.0X", "a" * 64),
        )
        for text in bad:
            with self.assertRaises(ValueError, msg=text):
                qr.split_literal(text)


class Timer:
    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self.seconds, self.action, self.cancelled = seconds, action, False

    def cancel(self) -> None:
        self.cancelled = True


class Delivering(unittest.TestCase):
    def setUp(self) -> None:
        self.out: list[bytes] = []
        self.timers: list[Timer] = []
        self.delivery = Delivery(OLD_TO_NEW, self.out.append, self.timer)

    def timer(self, seconds: float, action: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, action))
        return self.timers[-1]

    def arrive(self, kind: int, seq: int, body: bytes = b"") -> Header | None:
        return self.delivery.receive(Header(NEW_TO_OLD, kind, seq).encode() + body)

    def seal(self, count: int) -> list[bytes]:
        first = self.delivery.next_seq
        frames = [Header(OLD_TO_NEW, CREDENTIAL, first + i).encode() + b"x" for i in range(count)]
        for frame in frames:
            self.delivery.send(frame)
        return frames

    def test_window_timer_and_resume(self) -> None:
        self.delivery.went_online()
        frames = self.seal(4)
        self.assertFalse(self.delivery.has_room())
        self.assertEqual(frames, self.out)
        for seconds in (2.0, 4.0, 8.0, 16.0, 16.0):
            self.assertEqual(seconds, self.timers[-1].seconds)
            self.out.clear()
            self.timers[-1].action()
            self.assertEqual(frames, self.out)
        self.arrive(ACKNOWLEDGEMENT, 2)
        self.assertEqual(2.0, self.timers[-1].seconds)
        self.arrive(ACKNOWLEDGEMENT, 1)
        self.delivery.went_offline()
        self.assertTrue(self.timers[-1].cancelled)
        self.out.clear()
        self.delivery.went_online()
        self.assertEqual(frames[2:], self.out)

    def test_sealed_while_the_peer_is_offline(self) -> None:
        self.delivery.peer_known()
        frames = self.seal(2)
        self.assertEqual([], self.out)
        with self.assertRaises(Fatal):
            self.arrive(ACKNOWLEDGEMENT, 1)
        self.delivery.went_online()
        self.assertEqual(frames, self.out)

    def test_receiving(self) -> None:
        self.assertIsNone(self.arrive(HELLO, 0))  # the peer is not known yet
        self.assertEqual([], self.out)
        self.delivery.went_online()
        self.assertIsNone(self.arrive(HELLO, 1))
        self.assertEqual(Header(NEW_TO_OLD, HELLO, 0), self.arrive(HELLO, 0))
        self.delivery.accept()
        self.assertIsNone(self.arrive(HELLO, 0))
        acknowledged = [Header.decode(frame).seq for frame in self.out]
        self.assertEqual([0, 1, 1], acknowledged)

    def test_fatal(self) -> None:
        self.delivery.went_online()
        good = Header(NEW_TO_OLD, HELLO, 0).encode()
        for frame in (
            good[:11],
            b"\x02" + good[1:],
            good[:1] + b"\x01" + good[2:],
            good[:1] + b"\x03" + good[2:],
            good[:2] + b"\x00" + good[3:],
            good[:2] + b"\x06" + good[3:],
            good[:2] + b"\x03" + good[3:],
            good[:3] + b"\x01" + good[4:],
            Header(NEW_TO_OLD, ACKNOWLEDGEMENT, 0).encode() + b"x",
            Header(NEW_TO_OLD, ACKNOWLEDGEMENT, 1).encode(),
            Header(OLD_TO_NEW, ACKNOWLEDGEMENT, 0).encode(),
        ):
            with self.subTest(frame=frame.hex()), self.assertRaises(Fatal):
                self.delivery.receive(frame)

    def test_quota_stops_the_timer(self) -> None:
        self.delivery.went_online()
        self.seal(4)
        while not self.timers[-1].cancelled:
            before = len(self.timers)
            self.timers[-1].action()
            if len(self.timers) == before:
                break
        self.assertEqual(512, len(self.out))


if __name__ == "__main__":
    unittest.main()
