//! An app that talks to the service over TLS, with a certificate that it trusts and with one that it does not.

use std::path::Path;

use super::story::on_file;
use super::*;
use crate::handoff::process::Process;
use crate::handoff::scene::Folder;
use crate::handoff::tls::Authority;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_activated_over_tls_and_trusts_nobody_but_its_authorities() {
    let (place, folder, authority) = (Place::new(None), Folder::with(0), Authority::new());
    let user = {
        let service = place.start(0);
        on_file(&Phone::new(service.address()), &place).await.0
    };
    let service = place.start_with(0, &authority.settings(&folder, "localhost"));
    let url = format!("https://localhost:{}", service.address().port());
    let (trusted, other) = (authority.file(&folder, "ca.pem"), Authority::new().file(&folder, "other.pem"));
    let (state, token) = (folder.text("phone.json"), place.token(&user));
    let activate = |ca: &str| {
        Process::start(&[
            "activate",
            "--json",
            "--server",
            &url,
            "--ca-file",
            ca,
            "--enrolment-token",
            &token,
            "--state",
            &state,
        ])
    };
    activate(&other).end().expect_refusal(69, "certificate or encryption is not acceptable");
    let mut phone = activate(&trusted);
    phone.until("sms_sent");
    let client = https::client(Some(Path::new(&trusted))).unwrap();
    let outbox =
        async || -> Value { client.get(format!("{url}/dev/outbox.json")).send().await.unwrap().json().await.unwrap() };
    let page =
        eventually("an SMS", outbox, |page| page["messages"].as_array().is_some_and(|all| !all.is_empty())).await;
    let text = page["messages"][0]["text"].as_str().unwrap();
    phone.until_where("ask", |event| event["offered"] == false);
    phone.type_line(&text.rsplit_once('#').unwrap().1[..8]);
    for line in ["493827", "493827", "no", "no"] {
        phone.until("ask");
        phone.type_line(line);
    }
    assert_eq!(phone.end().code, Some(0));
    let listed = Process::start(&["apps", "list", "--json", "--state", &state, "--ca-file", &trusted]).end();
    assert!(listed.code == Some(0) && listed.has("app"), "{listed:?}");
    let none = Process::start(&["apps", "list", "--json", "--state", &state, "--ca-file", "/no/such/file"]).end();
    none.expect_refusal(66, "the file of certificate authorities cannot be read");
}
