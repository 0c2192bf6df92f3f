//! `docs/asyncapi.json`: its messages, schemas, examples and close codes.

use std::collections::{BTreeMap, BTreeSet};

use handoff_relay::protocol::close::{CloseReason, Scope};
use handoff_relay::protocol::ids::{JoinHash, JoinProof, ResumeHash, ResumeToken};
use handoff_relay::protocol::message::{ClientMessage, ServerMessage};
use handoff_relay::protocol::{Role, SUBPROTOCOL, frame, limits};
use serde_json::{Map, Value, json};

use super::samples;

fn document() -> Value {
    serde_json::from_str(include_str!("../../../docs/asyncapi.json")).unwrap()
}

/// Follows `$ref`; every other value is itself.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(pointer) => {
            let target = document.pointer(pointer.trim_start_matches('#')).unwrap_or_else(|| panic!("{pointer}"));
            resolve(document, target)
        }
        None => value,
    }
}

/// The messages of the code by type, each with whether an app sends it.
fn messages() -> BTreeMap<String, (Value, bool)> {
    let from_apps = samples::values(&samples::from_apps()).into_iter().map(|message| (message, true));
    let from_relay = samples::values(&samples::from_relay()).into_iter().map(|message| (message, false));
    from_apps.chain(from_relay).map(|sent| (sent.0["type"].as_str().unwrap().to_owned(), sent)).collect()
}

fn decodes(message: &Value, from_app: bool) -> bool {
    let text = message.to_string();
    if from_app { ClientMessage::decode(&text).is_ok() } else { ServerMessage::decode(&text).is_ok() }
}

#[test]
fn the_messages_are_those_of_the_code_and_data_frames() {
    let document = document();
    let described: BTreeSet<&String> = document["components"]["messages"].as_object().unwrap().keys().collect();
    let code = messages();
    let data = "data".to_owned();
    assert_eq!(described, code.keys().chain([&data]).collect());
    let frames = &document["components"]["messages"]["data"]["payload"];
    assert_eq!(
        (&frames["minLength"], &frames["maxLength"]),
        (&json!(frame::HEADER_BYTES), &json!(limits::MAX_FRAME_BYTES))
    );
}

#[test]
fn the_fields_are_those_of_the_code_and_as_obligatory_as_there() {
    let document = document();
    for (name, (message, from_app)) in messages() {
        let schema = resolve(&document, &document["components"]["messages"][&name]["payload"]);
        check_object(&document, &name, schema, &message, &|changed| decodes(changed, from_app));
        assert_eq!(schema["properties"]["type"]["const"], json!(name));

        let mut extended = message.clone();
        extended["weather"] = json!("fine");
        let closed = schema.get("additionalProperties") == Some(&json!(false));
        assert_eq!(decodes(&extended, from_app), !closed, "{name}");
        assert_eq!(closed, from_app, "{name}");
    }
    let joined = serde_json::to_value(&samples::from_relay()[3]).unwrap();
    let inner = &document["components"]["schemas"]["JoinedPeer"];
    let mut message = json!({"type": "resumed", "expires_in_ms": 1, "peer_online": true, "joined": joined});
    message["joined"].as_object_mut().unwrap().remove("type");
    let object = message["joined"].clone();
    check_object(&document, "joined", inner, &object, &|changed| {
        let mut message = message.clone();
        message["joined"] = changed.clone();
        decodes(&message, false)
    });
}

/// `sample` has exactly the schema's properties; it decodes without each of the optional ones and not without each
/// of the required ones; and each has the type that the schema says.
fn check_object(document: &Value, name: &str, schema: &Value, sample: &Value, decodes: &dyn Fn(&Value) -> bool) {
    let properties = schema["properties"].as_object().unwrap();
    let sample = sample.as_object().unwrap();
    assert_eq!(properties.keys().collect::<BTreeSet<_>>(), sample.keys().collect::<BTreeSet<_>>(), "{name}");
    let required: BTreeSet<&str> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(decodes(&Value::Object(sample.clone())), "{name}");
    for (field, value) in sample {
        let mut without: Map<String, Value> = sample.clone();
        without.remove(field);
        assert_eq!(decodes(&Value::Object(without)), !required.contains(field.as_str()), "{name}.{field}");
        let kind = resolve(document, &properties[field])["type"].as_str().unwrap();
        let fits = match kind {
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{name}.{field}: {other}"),
        };
        assert!(fits, "{name}.{field}: {kind}");
    }
}

#[test]
fn every_message_has_examples_and_they_decode() {
    let document = document();
    for (name, (_, from_app)) in messages() {
        let examples = document["components"]["messages"][&name]["examples"].as_array().unwrap();
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            assert_eq!(example["payload"]["type"], json!(name));
            assert!(decodes(&example["payload"], from_app), "{name}: {example}");
        }
    }
}

#[test]
fn the_bounds_are_those_of_the_code() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let characters = |bytes: usize| bytes.saturating_mul(4).div_ceil(3);
    for (name, shortest, longest) in [
        ("PublicKey", 1, limits::MAX_PUBLIC_KEY_BYTES),
        ("JoinHash", JoinHash::LEN, JoinHash::LEN),
        ("JoinProof", JoinProof::LEN, JoinProof::LEN),
        ("ResumeToken", ResumeToken::LEN, ResumeToken::LEN),
        ("ResumeHash", ResumeHash::LEN, ResumeHash::LEN),
    ] {
        assert_eq!(schemas[name]["minLength"], json!(characters(shortest)), "{name}");
        assert_eq!(schemas[name]["maxLength"], json!(characters(longest)), "{name}");
    }
    let lifetime = u64::try_from(limits::SESSION_LIFETIME.as_millis()).unwrap();
    let interval = u64::try_from(limits::MIN_FRAME_INTERVAL.as_millis()).unwrap();
    let open = &schemas["OpenMessage"]["properties"];
    assert_eq!(open["join_hashes"]["maxItems"], json!(limits::MAX_FRAMES));
    assert_eq!(open["interval_ms"]["minimum"], json!(interval));
    assert_eq!(open["interval_ms"]["maximum"], json!(lifetime));
    assert_eq!(open["token"]["maxLength"], json!(limits::MAX_TOKEN_BYTES));
    assert_eq!(schemas["ExpiresInMs"]["maximum"], json!(lifetime));
    assert_eq!(schemas["JoinMessage"]["properties"]["frame"]["maximum"], json!(u8::MAX));
    assert_eq!(schemas["FrameNumber"]["maximum"], json!(limits::MAX_FRAMES.saturating_sub(1)));
    let about = document["info"]["description"].as_str().unwrap();
    for bytes in [limits::MAX_CONTROL_BYTES, limits::MAX_FRAME_BYTES] {
        assert!(about.contains(&bytes.to_string()), "{bytes}");
    }
}

#[test]
fn the_enumerations_and_close_codes_are_those_of_the_code() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["CancelReason"]["enum"], json!(samples::cancel_reasons()));
    assert_eq!(schemas["Network"]["enum"], json!(samples::networks()));
    assert_eq!(schemas["Country"]["enum"], json!(samples::countries()));
    assert_eq!(schemas["CloseReason"]["enum"], json!(CloseReason::ALL));
    let codes: Vec<Value> = CloseReason::ALL.iter().map(|reason| close_code(*reason)).collect();
    assert_eq!(document["x-close-codes"], json!(codes));
}

fn close_code(reason: CloseReason) -> Value {
    let scope = match reason.scope() {
        Scope::Session => "session",
        Scope::Connection => "connection",
    };
    json!({
        "code": reason.code(), "reason": reason.label(), "scope": scope, "retry": reason.can_retry(),
        "detail": reason.sentence(),
    })
}

#[test]
fn each_role_has_its_channel_with_messages_that_exist() {
    let document = document();
    let channels = document["channels"].as_object().unwrap();
    assert_eq!(channels.len(), Role::BOTH.len());
    let mut used = BTreeSet::new();
    for role in Role::BOTH {
        let channel = &channels[role.as_str()];
        assert_eq!(channel["address"], json!(format!("/v1/sessions/{{sid}}/{role}")));
        let headers = &channel["bindings"]["ws"]["headers"]["properties"];
        assert_eq!(headers["Sec-WebSocket-Protocol"]["const"], json!(SUBPROTOCOL));
        for (name, reference) in channel["messages"].as_object().unwrap() {
            assert_eq!(resolve(&document, reference)["name"], json!(name));
            used.insert(name.clone());
        }
    }
    assert_eq!(document["x-subprotocol"], json!(SUBPROTOCOL));
    assert_eq!(used, document["components"]["messages"].as_object().unwrap().keys().cloned().collect());
    for (name, operation) in document["operations"].as_object().unwrap() {
        for reference in operation["messages"].as_array().unwrap() {
            assert!(resolve(&document, reference)["name"].is_string(), "{name}");
        }
    }
}
