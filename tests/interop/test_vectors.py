"""This implementation against tests/vectors/."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any

from handoff_py import hpke
from handoff_py.derivations import p256_point

VECTORS = Path(__file__).parents[1] / "vectors"


def load(name: str) -> Any:
    path = VECTORS / name
    if not path.exists():
        raise unittest.SkipTest(f"no {name}")
    return json.loads(path.read_text())


def h(text: str) -> bytes:
    return bytes.fromhex(text)


class Rfc9180(unittest.TestCase):
    def test_mode_psk(self) -> None:
        vectors = [v for v in load("rfc9180-p256-sha256-aes256gcm.json") if v["mode"] == 1]
        self.assertTrue(vectors)
        for v in vectors:
            sk_r, sk_e = hpke.derive_key_pair(h(v["ikmR"])), hpke.derive_key_pair(h(v["ikmE"]))
            self.assertEqual(int(v["skRm"], 16), sk_r.private_numbers().private_value)
            self.assertEqual(h(v["pkRm"]), p256_point(sk_r.public_key()))
            self.assertEqual(h(v["shared_secret"]), hpke.decap(h(v["enc"]), sk_r))
            info, psk, psk_id = h(v["info"]), h(v["psk"]), h(v["psk_id"])
            enc, sender = hpke.setup_psk_s(h(v["pkRm"]), info, psk, psk_id, sk_e)
            receiver = hpke.setup_psk_r(enc, sk_r, info, psk, psk_id)
            self.assertEqual(h(v["enc"]), enc)
            self.assertEqual(h(v["key"]), sender.key)
            self.assertEqual(h(v["base_nonce"]), sender.base_nonce)
            self.assertEqual(h(v["exporter_secret"]), sender.exporter_secret)
            seq = 0
            for e in v["encryptions"]:
                seq = int.from_bytes(h(e["nonce"]), "big") ^ int.from_bytes(
                    h(v["base_nonce"]), "big"
                )
                sender.seq = receiver.seq = seq
                self.assertEqual(h(e["ct"]), sender.seal(h(e["aad"]), h(e["pt"])))
                self.assertEqual(h(e["pt"]), receiver.open(h(e["aad"]), h(e["ct"])))
            for e in v["exports"]:
                exported = receiver.export(h(e["exporter_context"]), e["L"])
                self.assertEqual(h(e["exported_value"]), exported)


if __name__ == "__main__":
    unittest.main()
