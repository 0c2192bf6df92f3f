//! Finds secrets in a log, in every spelling that a line could give them. Knows nothing of what is secret.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// A secret is looked for in pieces of so many bytes, so that a part of it gives it away, too: every stretch of twice
/// as many has a whole piece in it. A multiple of three, so that base64 of a piece is a piece of base64.
const PIECE_BYTES: usize = 12;

/// What is shorter would be found by accident.
pub(super) const LEAST_BYTES: usize = 6;

/// Of long data, the first and last pieces.
const PIECES_AT_AN_END: usize = 8;

/// Of one kind.
const MOST_TOLD: usize = 3;

type Key = [u8; LEAST_BYTES];

/// What must not be found.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    pieces: HashMap<Vec<u8>, String>,
    literals: HashMap<String, String>,
    codes: HashSet<String>,
    count: usize,
}

impl Secrets {
    /// Adds a secret. What is too short to be found is left out; so are spaces.
    pub(crate) fn add(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        let chunks: Vec<&[u8]> = secret.as_ref().chunks(PIECE_BYTES).collect();
        let at_an_end = |at: usize| at < PIECES_AT_AN_END || at + PIECES_AT_AN_END >= chunks.len();
        let mut is_counted = false;
        for (at, piece) in chunks.iter().enumerate().filter(|(at, _)| at_an_end(*at)) {
            // The rest of a long secret may be anything; a short secret must do as it is.
            let least = if at == 0 { LEAST_BYTES } else { PIECE_BYTES - 4 };
            if piece.len() < least || piece.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let is_new = self.pieces.insert(piece.to_vec(), name.to_owned()).is_none();
            self.count += usize::from(is_new && !is_counted);
            is_counted |= is_new;
        }
    }

    /// Adds an address, which has spellings of its own.
    pub(crate) fn add_address(&mut self, address: Ipv4Addr) {
        let [a, b, c, d] = address.octets();
        let spellings = [
            address.to_string(),
            format!("{a}, {b}, {c}, {d}"),
            format!("{a},{b},{c},{d}"),
            format!("{a:02x}{b:02x}{c:02x}{d:02x}"),
            format!("{a:02x}{b:02x}:{c:02x}{d:02x}"),
            u32::from(address).to_string(),
        ];
        self.literals.extend(spellings.map(|spelling| (spelling, "address".to_owned())));
        self.count += 1;
    }

    /// Adds four digits, which are found only behind the word `code`: elsewhere they may be anything.
    pub(crate) fn add_code(&mut self, code: &str) {
        self.count += usize::from(self.codes.insert(code.to_owned()));
    }

    /// Everything that another run knew, too.
    pub(crate) fn add_all(&mut self, other: Self) {
        self.pieces.extend(other.pieces);
        self.literals.extend(other.literals);
        self.codes.extend(other.codes);
        self.count += other.count;
    }

    /// How many different secrets there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn names(&self) -> HashSet<&str> {
        self.pieces.values().chain(self.literals.values()).map(String::as_str).collect()
    }

    /// Which secrets stand in a log, and how they are spelled there.
    pub(crate) fn found_in(&self, log: &str) -> Vec<String> {
        let text = [log, &unescaped(log)].join("\n");
        let keys: HashSet<Key> = text.as_bytes().windows(LEAST_BYTES).map(|key| key.try_into().unwrap()).collect();
        let holds = |spelling: &str| {
            spelling.as_bytes().first_chunk().is_some_and(|key| keys.contains(key)) && text.contains(spelling)
        };
        let mut found = Vec::new();
        let mut told: HashMap<&str, usize> = HashMap::new();
        for (piece, name) in &self.pieces {
            // A few tell what is wrong; thousands only take long.
            let told = told.entry(name).or_default();
            if *told < MOST_TOLD {
                let spelled: Vec<_> = spellings(piece).into_iter().filter(|(_, spelling)| holds(spelling)).collect();
                *told += usize::from(!spelled.is_empty());
                found.extend(spelled.into_iter().map(|(how, spelling)| format!("{name} ({how}): {spelling}")));
            }
        }
        let literals = self.literals.iter().filter(|(spelling, _)| holds(spelling));
        found.extend(literals.map(|(spelling, name)| format!("{name}: {spelling}")));
        found.extend(self.codes.iter().filter(|code| holds_code(&text, code)).map(|code| format!("check code {code}")));
        found.sort();
        found
    }
}

/// All strings of all lines that are JSON, without their escapes; and the log with half of its backslashes, because
/// bytes that were printed with escapes are escaped once more when they stand in a string.
fn unescaped(log: &str) -> String {
    fn strings(value: Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) => into.push(text),
            Value::Array(items) => items.into_iter().for_each(|item| strings(item, into)),
            Value::Object(members) => members.into_iter().for_each(|(name, member)| {
                into.push(name);
                strings(member, into);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = vec![log.replace("\\\\", "\\").replace("\\\"", "\"")];
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|value| strings(value, &mut found));
    found.join("\n")
}

fn holds_code(text: &str, code: &str) -> bool {
    text.match_indices(code).any(|(at, _)| {
        let before = text[..at].trim_end_matches(['=', ':', '"', ' ', '(', '\\']);
        before.to_ascii_lowercase().ends_with("code")
    })
}

/// How a program could print bytes.
fn spellings(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let each = |spell: fn(&mut String, u8) -> std::fmt::Result, between: &str| {
        let mut text = String::with_capacity(8 * bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { between });
            spell(&mut text, *byte).unwrap();
        }
        text
    };
    // The last letter of base64 holds bits of what follows, too.
    let base64 = |engine: &dyn Fn(&[u8]) -> String| {
        let mut text = engine(bytes);
        text.truncate(bytes.len() * 8 / 6);
        text
    };
    let percent = |text: &mut String, byte: u8| {
        let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if is_plain { text.write_char(char::from(byte)) } else { write!(text, "%{byte:02X}") }
    };
    let mut spellings = vec![
        ("as text", String::from_utf8_lossy(bytes).into_owned()),
        ("hex", each(|text, byte| write!(text, "{byte:02x}"), "")),
        ("HEX", each(|text, byte| write!(text, "{byte:02X}"), "")),
        ("hex with spaces", each(|text, byte| write!(text, "{byte:02x}"), " ")),
        ("hex with colons", each(|text, byte| write!(text, "{byte:02x}"), ":")),
        ("a list of hex", each(|text, byte| write!(text, "{byte:x}"), ", ")),
        ("a list of 0x", each(|text, byte| write!(text, "{byte:#04x}"), ", ")),
        ("a list", each(|text, byte| write!(text, "{byte}"), ", ")),
        ("a dense list", each(|text, byte| write!(text, "{byte}"), ",")),
        ("base64", base64(&|bytes| STANDARD_NO_PAD.encode(bytes))),
        ("base64url", base64(&|bytes| URL_SAFE_NO_PAD.encode(bytes))),
        ("percent-encoded", each(percent, "")),
        ("percent-encoded throughout", each(|text, byte| write!(text, "%{byte:02X}"), "")),
        ("percent-encoded in lower case", each(|text, byte| write!(text, "%{byte:02x}"), "")),
        ("escaped", bytes.escape_ascii().to_string()),
    ];
    if !bytes.is_ascii() {
        let text = String::from_utf8_lossy(bytes).escape_debug().to_string();
        spellings.push(("as escaped text", text));
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn innocent() -> String {
        "{\"level\":\"INFO\",\"message\":\"session ended\",\"session\":\"0123456789abcdef\"}\n".repeat(50)
    }

    fn token() -> Vec<u8> {
        (0..32).map(|index| 251_u8.wrapping_mul(index).wrapping_add(0x9e)).collect()
    }

    #[test]
    fn a_secret_is_found_in_every_spelling_whole_or_in_part() {
        let mut secrets = Secrets::default();
        secrets.add("token", token());
        assert_eq!(secrets.found_in(&innocent()), [""; 0]);
        for part in [&token()[..], &token()[..PIECE_BYTES], &token()[PIECE_BYTES..], &token()[5..]] {
            for (how, spelling) in spellings(part) {
                // Base64 is that of the whole or of a part that begins where a group of three does.
                if how.starts_with("base64") && part.len() == 27 {
                    continue;
                }
                for line in [format!("message={spelling}"), serde_json::json!({ "message": spelling }).to_string()] {
                    let log = format!("{}{line}\n{}", innocent(), innocent());
                    let found = secrets.found_in(&log);
                    assert!(found.iter().any(|found| found.starts_with("token (")), "{how}: {line}");
                }
            }
        }
    }

    #[test]
    fn what_rust_prints_of_bytes_and_text_is_found() {
        let mut secrets = Secrets::default();
        secrets.add("token", token());
        secrets.add("text", "{\"type\":\"resume\",\"token\":\"geheim\"}");
        let text = "{\"type\":\"resume\",\"token\":\"geheim\"}";
        let bytes = bytes::Bytes::from(token());
        let printed =
            [format!("{:?}", token()), format!("{:02x?}", token()), format!("{bytes:?}"), format!("{bytes:x}")];
        let texts = [text.to_owned(), format!("{text:?}"), format!("{:?}", text.as_bytes()), format!("Some({text:?})")];
        for message in printed.iter().chain(&texts) {
            for line in [message.clone(), serde_json::json!({ "fields": { "message": message } }).to_string()] {
                assert!(!secrets.found_in(&line).is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn an_address_is_found_in_every_spelling() {
        let address = Ipv4Addr::new(127, 77, 1, 23);
        let mut secrets = Secrets::default();
        secrets.add_address(address);
        let mapped = address.to_ipv6_mapped();
        let spelled = ["peer=127.77.1.23:443".to_owned(), mapped.to_string(), format!("{:?}", address.octets())];
        for line in spelled.iter().chain(&[format!("{:x}", u32::from(address)), u32::from(address).to_string()]) {
            assert!(!secrets.found_in(line).is_empty(), "{line}");
        }
        assert_eq!(secrets.found_in("listening on 127.0.0.1:443"), [""; 0]);
    }

    #[test]
    fn a_check_code_is_found_behind_its_name_only() {
        let mut secrets = Secrets::default();
        secrets.add_code("4711");
        for leak in ["code=4711", "{\"code\":\"4711\"}", "{\"code\":4711}", "check_code: 4711", "CheckCode(4711)"] {
            assert_eq!(secrets.found_in(leak), ["check code 4711"], "{leak}");
        }
        assert_eq!(secrets.found_in("duration_ms=4711 port:4711"), [""; 0]);
    }
}
