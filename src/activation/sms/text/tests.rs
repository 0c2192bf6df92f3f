use proptest::prelude::*;

use super::*;

const PURPOSES: [Purpose; 3] = [Purpose::ThisPhone, Purpose::OtherPhone, Purpose::NewPin];

fn pin() -> TemporaryPin {
    "12345678".parse().unwrap()
}

fn hash() -> AppHash {
    "FA+9qCX9VSu".parse().unwrap()
}

fn texts() -> SmsTexts {
    SmsTexts::new("eid.example", "e-ID", vec![hash()]).unwrap()
}

/// What the origin-bound format says of a message: host, code, embedded host.
///
/// Written after the parsing algorithm of "Origin-bound one-time codes delivered via SMS" (WICG).
#[derive(Debug, PartialEq, Eq)]
struct OriginBound {
    host: String,
    code: String,
    embedded: Option<String>,
}

fn origin_bound(message: &str) -> Option<OriginBound> {
    let take = |text: &str| -> (String, String) {
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        (text[..end].to_owned(), text[end..].to_owned())
    };
    let last = message.split('\n').next_back()?;
    let (host, rest) = take(last.strip_prefix('@')?);
    let (code, rest) = take(rest.strip_prefix(" #")?);
    let embedded = rest.strip_prefix(" @").map(|rest| take(rest).0);
    let is_valid = !host.is_empty() && !code.is_empty() && embedded.as_ref().is_none_or(|host| !host.is_empty());
    is_valid.then_some(OriginBound { host, code, embedded })
}

/// Whether Android hands this message to the app with this hash, in the strictest reading of all editions of the SMS
/// Retriever's rules: begins with the mark, ends with the hash, at most 140 bytes, holds a code.
fn retriever(message: &str, hash: &AppHash) -> bool {
    message.len() <= 140
        && message.starts_with("<#> ")
        && message.ends_with(&format!(" {}", hash.as_str()))
        && message.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() == DIGITS)
}

const DIGITS: usize = crate::activation::temporary_pin::DIGITS;

/// Septets of a message in GSM 03.38, if it can be written in it.
fn septets(message: &str) -> Option<usize> {
    let length = |c: char| match c {
        '\n' => Some(1),
        '^' | '{' | '}' | '\\' | '[' | ']' | '~' | '|' | '€' => Some(2),
        c => GSM_BASIC.contains(c).then_some(1),
    };
    message.chars().map(length).sum()
}

fn all_bodies(texts: &SmsTexts, hash: Option<&AppHash>) -> Vec<String> {
    let kinds = Language::ALL.into_iter().flat_map(|language| PURPOSES.map(|purpose| (language, purpose)));
    let compose = |(language, purpose)| texts.compose(&pin(), purpose, language, hash).unwrap().expose().to_owned();
    kinds.map(compose).collect()
}

#[test]
fn the_texts_are_these() {
    let bodies = all_bodies(&texts(), Some(&hash()));
    let expected = [
        "<#> 1234 5678 er din kode til at aktivere e-ID. Del den aldrig.\n\n@eid.example #12345678 FA+9qCX9VSu",
        "<#> 1234 5678 er din kode til at kopiere e-ID til en anden telefon. Del den aldrig.\n\n\
         @eid.example #12345678 FA+9qCX9VSu",
        "<#> 1234 5678 er din kode til at vælge en ny PIN til e-ID. Del den aldrig.\n\n@eid.example #12345678 FA+9qCX9VSu",
        "<#> 1234 5678 is your code to activate e-ID. Never share it.\n\n@eid.example #12345678 FA+9qCX9VSu",
        "<#> 1234 5678 is your code to copy e-ID to another phone. Never share it.\n\n\
         @eid.example #12345678 FA+9qCX9VSu",
        "<#> 1234 5678 is your code to choose a new PIN for e-ID. Never share it.\n\n@eid.example #12345678 FA+9qCX9VSu",
    ];
    assert_eq!(bodies, expected);
}

#[test]
fn one_body_is_understood_by_browsers_and_by_android() {
    for body in all_bodies(&texts(), Some(&hash())) {
        let expected = OriginBound { host: "eid.example".to_owned(), code: "12345678".to_owned(), embedded: None };
        assert_eq!(origin_bound(&body), Some(expected), "{body}");
        assert!(retriever(&body, &hash()), "{body}");
        assert!(!retriever(&body, &"AAAAAAAAAAA".parse().unwrap()), "another app must not get it");
    }
}

#[test]
fn without_an_app_hash_nothing_is_said_to_android() {
    for body in all_bodies(&texts(), None) {
        assert!(origin_bound(&body).is_some() && !body.starts_with("<#>") && body.ends_with("#12345678"), "{body}");
    }
}

#[test]
fn a_body_has_one_sms_and_no_link() {
    for body in all_bodies(&texts(), Some(&hash())) {
        assert!(septets(&body).is_some_and(|septets| septets <= MOST_BYTES), "{body}");
        let (words, _) = body.split_once("\n\n").unwrap();
        // What a phone makes a link of: a scheme, or a full stop within a word.
        let is_link = |word: &str| word.contains("://") || word.trim_end_matches('.').contains('.');
        assert!(!words.split(' ').any(is_link) && !body.contains("http") && !body.contains("www"), "{body}");
    }
}

#[test]
fn the_grammars_of_this_test_refuse_what_the_specifications_refuse() {
    for bad in
        ["", "@eid.example", "@eid.example  #1", "eid.example #1", "x @eid.example #1", "@ #1", "@a #", "@a #1\n"]
    {
        assert_eq!(origin_bound(bad), None, "{bad}");
    }
    let embedded = origin_bound("hi\n@a.example #123 @b.example trailing").unwrap();
    assert_eq!((embedded.code.as_str(), embedded.embedded.as_deref()), ("123", Some("b.example")));
    assert!(!retriever("12345678 FA+9qCX9VSu", &hash()) && !retriever("<#> 12345678", &hash()));
    assert!(!retriever(&format!("<#> 12345678 {} FA+9qCX9VSu", "x".repeat(120)), &hash()));
    assert_eq!((septets("€"), septets("ø"), septets("ő"), septets("\u{1f44d}")), (Some(2), Some(1), None, None));
    assert_eq!(GSM_BASIC.chars().count(), 128 - 3);
}

#[test]
fn an_app_that_is_not_configured_gets_no_hash() {
    let other: AppHash = "AAAAAAAAAAA".parse().unwrap();
    let refused = texts().compose(&pin(), Purpose::ThisPhone, Language::English, Some(&other));
    assert_eq!(refused.unwrap_err(), UnknownAppHash);
}

#[test]
fn an_app_hash_is_eleven_characters_of_base64() {
    for bad in ["", "FA+9qCX9VS", "FA+9qCX9VSuu", "FA+9qCX9VS=", "FA 9qCX9VSu", "FA-9qCX9VSu", "Få+9qCX9VS"] {
        assert_eq!(bad.parse::<AppHash>(), Err(BadAppHash), "{bad}");
    }
}

#[test]
fn settings_that_make_no_sms_are_refused_at_start() {
    let refused = |domain, name| SmsTexts::new(domain, name, vec![]).unwrap_err();
    for domain in
        ["", "eid.example:8080", "https://eid.example", "Eid.example", "eid..example", "127.0.0.1", "-a.b", "a b"]
    {
        assert_eq!(refused(domain, "e-ID"), BadSmsTexts::Domain, "{domain}");
    }
    for name in ["", " e-ID", "e-id.dk", "visit http", "twelve chars", "e/ID", "app\n", "\u{1f44d}", "őapp"] {
        let result = SmsTexts::new("eid.example", name, vec![]);
        let is_allowed = name == "visit http";
        assert_eq!(result.err(), (!is_allowed).then_some(BadSmsTexts::Name), "{name}");
    }
    let long = "a".repeat(30) + ".example";
    assert!(matches!(refused(&long, "eleven char"), BadSmsTexts::TooLong(141..)));
    assert!(SmsTexts::new("localhost", "Øre-Æ", vec![]).is_ok());
}

#[test]
fn the_language_is_the_first_one_that_there_is() {
    for (list, language) in [
        ("da", Language::Danish),
        ("en-GB,en;q=0.9", Language::English),
        ("de, EN_us;q=0.8, da;q=0.1", Language::English),
        ("da-DK, en", Language::Danish),
        ("fr", Language::Danish),
        ("", Language::Danish),
    ] {
        assert_eq!(Language::from_locale(list), language, "{list}");
    }
}

#[test]
fn a_body_does_not_show_in_debug_output() {
    let text = texts().compose(&pin(), Purpose::ThisPhone, Language::English, None).unwrap();
    assert_eq!(format!("{text:?}"), "SmsText([redacted])");
}

proptest! {
    /// Whatever settings are accepted, every text of them is one valid SMS for both readers.
    #[test]
    fn accepted_settings_always_make_a_valid_sms(
        domain in "[a-z0-9.-]{1,45}", name in ".{1,12}", code in 0..100_000_000_u32
    ) {
        let Ok(texts) = SmsTexts::new(&domain, &name, vec![hash()]) else { return Ok(()) };
        let pin: TemporaryPin = format!("{code:08}").parse().unwrap();
        for (language, purpose) in Language::ALL.into_iter().flat_map(|l| PURPOSES.map(|p| (l, p))) {
            let body = texts.compose(&pin, purpose, language, Some(&hash())).unwrap();
            let found = origin_bound(body.expose()).unwrap();
            prop_assert_eq!((found.host.as_str(), found.code), (domain.as_str(), format!("{code:08}")));
            prop_assert!(retriever(body.expose(), &hash()));
            prop_assert!(septets(body.expose()).is_some_and(|septets| septets <= MOST_BYTES));
        }
    }
}
