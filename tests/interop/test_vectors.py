"""This implementation against tests/vectors/: what must come out, and all that must fail."""

from __future__ import annotations

import json
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from handoff_py import channel, hpke, hybrid, qr
from handoff_py import contents as c
from handoff_py import derivations as d
from handoff_py.frames import (
    CREDENTIAL,
    HELLO,
    NEW_TO_OLD,
    OLD_TO_NEW,
    RECEIPT,
    REPLY,
    Fatal,
    Header,
)
from handoff_py.hpke import OpenError

VECTORS = Path(__file__).parents[1] / "vectors"
TRANSFERS = ("transfer-p256.json", "transfer-mlkem768-p256.json")

Json = dict[str, Any]


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def h(text: str) -> bytes:
    return bytes.fromhex(text)


def p256_private_key(scalar: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(scalar, 16), ec.SECP256R1())


# From a vector's inputs to this implementation's objects


def frame_payload(inputs: Json, frame: int) -> bytes:
    return qr.Payload(
        inputs["suite"],
        inputs["flags"],
        frame,
        h(inputs["session_id"]),
        d.frame_secret(h(inputs["session_prk"]), frame),
        d.pk_hash(h(inputs["recipient_public_key"])),
        inputs["relay_id"],
        inputs["relay_host"],
    ).encode()


def binding(inputs: Json, frame: int) -> channel.Binding:
    prk = d.frame_prk(d.frame_secret(h(inputs["session_prk"]), frame))
    return channel.Binding(
        inputs["suite"],
        h(inputs["session_id"]),
        frame,
        d.transcript_root(frame_payload(inputs, frame)),
        d.psk(prk, h(inputs["proximity_nonce"])),
    )


def decap(inputs: Json) -> Callable[[bytes], bytes]:
    if inputs["suite"] == 2:
        return hybrid.PrivateKey(h(inputs["recipient_private_key"])).decap
    sk = p256_private_key(inputs["recipient_private_key"])
    return lambda enc: hpke.decap(enc, sk)


def encapsulated(transfer: Json) -> tuple[bytes, bytes]:
    """(shared secret, enc). Of suite 2 both are the vector's: ML-KEM cannot be made to repeat."""
    inputs, handshake = transfer["inputs"], transfer["handshake"]
    if inputs["suite"] == 2:
        return h(handshake["kem_shared_secret"]), h(handshake["encapsulated_key"])
    ephemeral = p256_private_key(inputs["ephemeral_private_key"])
    return hpke.encap(h(inputs["recipient_public_key"]), ephemeral)


def device(claims: Json) -> c.Device:
    return c.Device(claims["model"], claims["version"])


def new_side(transfer: Json) -> channel.NewChannel:
    inputs = transfer["inputs"]
    return channel.NewChannel(
        binding(inputs, inputs["frame"]),
        encapsulated(transfer),
        device(inputs["new_device"]),
        signing_key=p256_private_key(inputs["device_private_key"]),
        nonce=h(inputs["hello_nonce"]),
    )


def old_side(transfer: Json, frame: bytes, joined_frame: int) -> channel.OldChannel:
    inputs = transfer["inputs"]
    raw, body = split(frame, NEW_TO_OLD, HELLO, 0)
    return channel.OldChannel(binding(inputs, joined_frame), decap(inputs), raw, body)


def old_side_after_reply(transfer: Json) -> tuple[channel.OldChannel, bytes]:
    inputs = transfer["inputs"]
    old = old_side(transfer, h(transfer["handshake"]["hello"]["frame"]), inputs["frame"])
    return old, old.reply_frame(device(inputs["old_device"]), h(inputs["response_nonce"]))


def new_side_after_reply(transfer: Json) -> tuple[channel.NewChannel, str]:
    new = new_side(transfer)
    frame = h(transfer["handshake"]["reply"]["frame"])
    _, code = new.open_reply(*split(frame, OLD_TO_NEW, REPLY, 0))
    return new, code


def split(frame: bytes, direction: int, kind: int, seq: int) -> tuple[bytes, bytes]:
    """Header and body of the frame that is due; all other frames are refused."""
    if Header.decode(frame) != Header(direction, kind, seq):
        raise Fatal("not the frame that is due")
    return frame[:12], frame[12:]


class Rfc9180(unittest.TestCase):
    def test_mode_psk(self) -> None:
        vectors = [v for v in load("rfc9180-p256-sha256-aes256gcm.json") if v["mode"] == 1]
        self.assertTrue(vectors)
        for v in vectors:
            sk_r, sk_e = hpke.derive_key_pair(h(v["ikmR"])), hpke.derive_key_pair(h(v["ikmE"]))
            self.assertEqual(int(v["skRm"], 16), sk_r.private_numbers().private_value)
            self.assertEqual(h(v["pkRm"]), d.p256_point(sk_r.public_key()))
            shared_secret, enc = hpke.encap(h(v["pkRm"]), sk_e)
            self.assertEqual((h(v["shared_secret"]), h(v["enc"])), (shared_secret, enc))
            self.assertEqual(shared_secret, hpke.decap(enc, sk_r))
            sender, receiver = (
                hpke.Context(
                    hpke.KEM_P256, shared_secret, h(v["info"]), h(v["psk"]), h(v["psk_id"])
                )
                for _ in range(2)
            )
            self.assertEqual(h(v["key"]), sender.key)
            self.assertEqual(h(v["base_nonce"]), sender.base_nonce)
            self.assertEqual(h(v["exporter_secret"]), sender.exporter_secret)
            for e in v["encryptions"]:
                # The file leaves sequence numbers out; the nonce tells which one it is.
                seq = int.from_bytes(d.xor(h(e["nonce"]), h(v["base_nonce"])), "big")
                sender.seq = receiver.seq = seq
                self.assertEqual(h(e["ct"]), sender.seal(h(e["aad"]), h(e["pt"])))
                self.assertEqual(h(e["pt"]), receiver.open(h(e["aad"]), h(e["ct"])))
            for e in v["exports"]:
                exported = receiver.export(h(e["exporter_context"]), e["L"])
                self.assertEqual(h(e["exported_value"]), exported)


class Positive(unittest.TestCase):
    def test_qr(self) -> None:
        for v in load("qr.json")["frames"]:
            with self.subTest(v["name"]):
                i = v["inputs"]
                payload = qr.Payload(
                    i["suite"],
                    i["flags"],
                    i["frame"],
                    h(i["session_id"]),
                    h(i["frame_secret"]),
                    h(i["key_hash"]),
                    i["relay_id"],
                    i["relay_host"],
                )
                self.assertEqual(i["version"], qr.VERSION)
                self.assertEqual(h(v["payload"]), payload.encode())
                self.assertEqual(v["text"], qr.encode_text(payload.encode()))
                self.assertEqual(h(v["qr_hash"]), d.transcript_root(payload.encode()))
                self.assertEqual(payload, qr.decode_payload(qr.decode_text(v["text"])))

    def check_derived(self, inputs: Json, frame: int, v: Json) -> None:
        secret = d.frame_secret(h(inputs["session_prk"]), frame)
        prk = d.frame_prk(secret)
        payload = frame_payload(inputs, frame)
        b = binding(inputs, frame)
        self.assertEqual(h(v["key_hash"]), d.pk_hash(h(inputs["recipient_public_key"])))
        self.assertEqual(h(v["frame_secret"]), secret)
        self.assertEqual(h(v["qr_payload"]), payload)
        self.assertEqual(v["qr_text"], qr.encode_text(payload))
        self.assertEqual(h(v["qr_hash"]), b.root)
        self.assertEqual(h(v["frame_prk"]), prk)
        self.assertEqual(h(v["join_proof"]), d.join_proof(prk))
        self.assertEqual(h(v["join_hash"]), d.join_hash(d.join_proof(prk)))
        self.assertEqual(h(v["psk"]), b.psk)
        self.assertEqual(h(v["psk_id"]), b.psk_id)
        self.assertEqual(h(v["info"]), b.info)

    def check_keys(self, inputs: Json) -> None:
        pk = h(inputs["recipient_public_key"])
        if inputs["suite"] == 1:
            sk = hpke.derive_key_pair(h(inputs["recipient_key_seed"]))
            self.assertEqual(
                int(inputs["recipient_private_key"], 16), sk.private_numbers().private_value
            )
            self.assertEqual(pk, d.p256_point(sk.public_key()))
            ephemeral = hpke.derive_key_pair(h(inputs["encapsulation_randomness"]))
            self.assertEqual(
                int(inputs["ephemeral_private_key"], 16), ephemeral.private_numbers().private_value
            )
        else:
            seed = h(inputs["recipient_private_key"])
            self.assertEqual(pk, hybrid.PrivateKey(seed).public_key())
            hybrid.check_public_key(pk)
        self.assertTrue(channel.public_key_matches(inputs["suite"], pk, d.pk_hash(pk)))
        signing = p256_private_key(inputs["device_private_key"])
        self.assertEqual(h(inputs["device_public_key"]), d.p256_point(signing.public_key()))

    def test_derivations(self) -> None:
        for v in load("derivations.json")["derivations"]:
            with self.subTest(v["name"]):
                self.check_keys(v["inputs"])
                self.check_derived(v["inputs"], v["frame"], v["derived"])

    def test_padding(self) -> None:
        for v in load("padding.json")["paddings"]:
            self.assertEqual(h(v["padded"]), c.pad(h(v["message"])))
            self.assertEqual(h(v["message"]), c.unpad(h(v["padded"])))

    def test_check_codes(self) -> None:
        vectors = load("check-codes.json")
        for v in vectors["check_codes"]:
            self.assertEqual(v["check_code"], channel.code_digits(h(v["exported"])))
        for v in vectors["accepted_texts"]:
            self.assertEqual(v["check_code"], channel.read_code(v["text"]))

    def check_sealed(self, v: Json, plaintext: bytes, between: bytes = b"") -> None:
        """The parts of a sealed frame fit together; `between` stands before the ciphertext."""
        self.assertEqual(h(v["plaintext"]), plaintext)
        self.assertEqual(h(v["padded_plaintext"]), c.pad(plaintext))
        self.assertEqual(h(v["frame"]), h(v["header"]) + between + h(v["ciphertext"]))
        self.assertTrue(h(v["aad"]).startswith(h(v["header"])))

    def check_handshake(self, transfer: Json) -> None:
        inputs, v = transfer["inputs"], transfer["handshake"]
        shared_secret, enc = encapsulated(transfer)
        self.assertEqual(h(v["encapsulated_key"]), enc)
        self.assertEqual(h(v["kem_shared_secret"]), shared_secret)
        self.assertEqual(shared_secret, decap(inputs)(enc))

        spk = h(inputs["device_public_key"])
        hello = c.Hello(spk, device(inputs["new_device"]), h(inputs["hello_nonce"]))
        self.check_sealed(v["hello"], hello.encode(), d.u16(len(enc)) + enc)
        new = new_side(transfer)
        self.assertEqual(h(v["hello"]["frame"]), new.hello_frame)
        self.assertEqual(h(v["transcript_hash_1"]), new.th1)

        old, reply = old_side_after_reply(transfer)
        self.assertEqual(hello, old.hello)
        self.assertEqual(h(v["reply"]["frame"]), reply)
        claims = device(inputs["old_device"])
        self.check_sealed(v["reply"], claims.encode(), h(inputs["response_nonce"]))

        context = binding(inputs, inputs["frame"]).context(shared_secret)
        exported = context.export(b"handoff/1 response", 32)
        self.assertEqual(h(v["response_export"]), exported)
        self.assertEqual(
            h(v["response_prk"]), d.hkdf_extract(enc + h(inputs["response_nonce"]), exported)
        )
        keys = channel.ResponseKeys(context, enc, h(inputs["response_nonce"]))
        self.assertEqual(h(v["response_key"]), keys.key)
        self.assertEqual(h(v["response_base_nonce"]), keys.nonce)
        th2 = h(v["transcript_hash_2"])
        self.assertEqual(h(v["check_code_export_context"]), b"handoff/1 code" + th2)
        self.assertEqual(
            h(v["check_code_export"]), context.export(h(v["check_code_export_context"]), 8)
        )

        opened, code = new.open_reply(*split(reply, OLD_TO_NEW, REPLY, 0))
        self.assertEqual(claims, opened)
        self.assertEqual(v["check_code"], code)
        self.assertTrue(old.is_code(code))
        self.assertEqual((th2, th2), (old.th2, new.th2))

    def check_credential(self, transfer: Json, v: Json) -> None:
        credential = h(v["credential"])
        old, _ = old_side_after_reply(transfer)
        new, _ = new_side_after_reply(transfer)
        chunks = c.cut(credential)
        self.assertEqual(len(v["credential_frames"]), len(chunks))
        for seq, (chunk, sealed) in enumerate(zip(chunks, v["credential_frames"], strict=True), 1):
            self.check_sealed(sealed, chunk.encode())
            frame = old.credential_frame(seq, chunk)
            self.assertEqual(h(sealed["frame"]), frame)
            last = new.open_credential(seq, *split(frame, OLD_TO_NEW, CREDENTIAL, seq))
            self.assertEqual(seq == len(chunks), last)
        self.assertEqual(credential, new.credential())

        digest = d.sha256(credential)
        self.assertEqual(h(v["credential_digest"]), digest)
        assert new.th2 is not None
        statement = channel.receipt_message(new.th2, digest)
        self.assertEqual(h(v["receipt_statement"]), statement)
        signature = h(v["receipt_signature"])
        channel.verify(h(transfer["inputs"]["device_public_key"]), statement, signature)
        self.check_sealed(v["receipt"], digest + signature)
        self.assertEqual(h(v["receipt"]["frame"]), new.receipt_frame())
        raw, body = split(h(v["receipt"]["frame"]), NEW_TO_OLD, RECEIPT, 1)
        old.open_receipt(raw, body, credential)

    def test_transfers(self) -> None:
        for name in TRANSFERS:
            transfer = load(name)
            with self.subTest(name):
                self.check_keys(transfer["inputs"])
                derived = transfer["handshake"]["derived"]
                self.check_derived(transfer["inputs"], transfer["inputs"]["frame"], derived)
                self.check_handshake(transfer)
            for v in transfer["transfers"]:
                with self.subTest(name, credential=v["name"]):
                    self.check_credential(transfer, v)

    def test_acknowledgements(self) -> None:
        for name in TRANSFERS:
            frames = [h(v["frame"]) for v in load(name)["acknowledgements"]]
            expected = [(OLD_TO_NEW, 1), (NEW_TO_OLD, 1), (NEW_TO_OLD, 3)]
            self.assertEqual([Header(x, 5, seq).encode() for x, seq in expected], frames)

    def test_high_s_and_low_s(self) -> None:
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        transfer = load(TRANSFERS[0])
        spk = h(transfer["inputs"]["device_public_key"])
        for v in transfer["transfers"]:
            statement, signature = h(v["receipt_statement"]), h(v["receipt_signature"])
            other = (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
            channel.verify(spk, statement, signature)
            channel.verify(spk, statement, signature[:32] + other)


class CheckFailed(Exception):
    """A check that answers False."""


def require(condition: bool) -> None:
    if not condition:
        raise CheckFailed


def open_credential_frames(transfer: Json, frames: list[bytes]) -> None:
    new, _ = new_side_after_reply(transfer)
    for seq, frame in enumerate(frames, 1):
        new.open_credential(seq, *split(frame, OLD_TO_NEW, CREDENTIAL, seq))


def attempt(v: Json) -> Callable[[], object]:
    """The step that must fail; what comes before it is done here and must not."""
    step = v["step"]
    transfer = load(v["transfer"]) if "transfer" in v else {}
    frame = h(v.get("frame", ""))
    match step:
        case "read_qr_text":
            return lambda: qr.decode_payload(qr.decode_text(v["text"]))
        case "read_qr_payload":
            return lambda: qr.decode_payload(h(v["payload"]))
        case "make_invitation":
            payload = qr.decode_payload(h(v["qr_payload"]))
            return lambda: qr.check_demands(payload, h(v["proximity_nonce"]))
        case "accept_public_key":
            payload = qr.decode_payload(h(v["qr_payload"]))
            pk = h(v["public_key"])
            if v["expected"] == "bad_key":
                require(d.pk_hash(pk) == payload.pk_hash)
            return lambda: require(channel.public_key_matches(payload.suite, pk, payload.pk_hash))
        case "make_proximity_nonce":
            return lambda: d.check_proximity_nonce(h(v["nonce"]))
        case "make_psk":
            return lambda: channel.Binding(1, bytes(16), 0, bytes(32), h(v["psk"]))
        case "read_header":
            return lambda: Header.decode(frame)
        case "unpad":
            return lambda: c.unpad(h(v["padded"]))
        case "read_check_code":
            return lambda: require(channel.read_code(v["text"]) is not None)
        case "type_check_code":
            old, _ = old_side_after_reply(transfer)
            typed = channel.read_code(v["text"])
            assert typed is not None
            return lambda: require(old.is_code(typed))
        case "open_hello":
            return lambda: old_side(transfer, frame, v["joined_frame"])
        case "open_reply":
            new = new_side(transfer)
            return lambda: new.open_reply(*split(frame, OLD_TO_NEW, REPLY, 0))
        case "open_credential_frame":
            before = [h(x) for x in v["frames_before"]]
            open_credential_frames(transfer, before)
            return lambda: open_credential_frames(transfer, [*before, frame])
        case "open_receipt":
            old, _ = old_side_after_reply(transfer)
            credential = h(v["credential"])
            return lambda: old.open_receipt(*split(frame, NEW_TO_OLD, RECEIPT, 1), credential)
    raise AssertionError(f"an unknown step: {step}")


# What the text lets an app find out, for each error that the vectors name.
TOLD = {
    "newer_version": qr.UPDATE_APP,
    "unknown_suite": qr.UPDATE_APP,
    "bad_frame_number": qr.SCAN_AGAIN,
    "bad_session_id": qr.SCAN_AGAIN,
    "bad_relay": qr.RELAY_NOT_ALLOWED,
    "too_long": qr.SCAN_AGAIN,
    "cut": qr.SCAN_AGAIN,
    "bad_text": qr.SCAN_AGAIN,
    "foreign": qr.NOT_A_HANDOFF_CODE,
    "proximity_missing": qr.PROXIMITY_MISSING,
    "mutual_scan_unsupported": qr.MUTUAL_SCAN_UNSUPPORTED,
}
RAISED: dict[str, tuple[type[Exception], ...]] = {
    "key_mismatch": (CheckFailed,),
    "bad_key": (CheckFailed,),
    "bad_proximity": (ValueError,),
    "bad_psk": (ValueError,),
    "bad_check_code": (CheckFailed,),
    "wrong_code": (CheckFailed,),
    "unknown_version": (Fatal,),
    "unknown_direction": (Fatal,),
    "unknown_kind": (Fatal,),
    "too_short": (Fatal,),
    "does_not_open": (OpenError, Fatal),
}


class Refusals(unittest.TestCase):
    def test_all(self) -> None:
        vectors = load("refusals.json")["refusals"]
        self.assertGreater(len(vectors), 190)
        for v in vectors:
            with self.subTest(v["name"]):
                step = attempt(v)
                expected = v["expected"]
                if v["step"] == "read_header" and expected == "unknown_flags":
                    self.assertRaises(Fatal, step)
                elif expected in RAISED:
                    self.assertRaises(RAISED[expected], step)
                else:
                    told = qr.UPDATE_APP if expected == "unknown_flags" else TOLD[expected]
                    with self.assertRaises(qr.Refused) as refused:
                        step()
                    self.assertEqual(told, refused.exception.told)

    def test_no_refusal_for_the_wrong_reason(self) -> None:
        """The unspoiled frames open, with the same helpers."""
        for name in TRANSFERS:
            transfer = load(name)
            inputs, v = transfer["inputs"], transfer["handshake"]
            old_side(transfer, h(v["hello"]["frame"]), inputs["frame"])
            new_side_after_reply(transfer)
            for each in transfer["transfers"]:
                frames = [h(x["frame"]) for x in each["credential_frames"]]
                open_credential_frames(transfer, frames)


if __name__ == "__main__":
    unittest.main()
