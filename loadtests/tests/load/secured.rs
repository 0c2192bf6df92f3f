//! Over TLS, and against several nodes that share a Redis.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use crate::runs::burst;
use crate::support::{Folder, Redis, Relay, group, run, sum};

/// A relay with a certificate for `localhost`, and the file that makes it trusted.
fn secure_relay(folder: &Folder) -> (Relay, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let files = [("ca.pem", authority.pem()), ("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())];
    let [ca, certificate, key] = files.map(|(name, text)| {
        fs::write(folder.path(name), text).unwrap();
        folder.path(name)
    });
    (Relay::start(&[&format!("server.tls_certificate={certificate}"), &format!("server.tls_key={key}")]), ca)
}

#[test]
fn everything_goes_over_tls_as_well() {
    let folder = Folder::new("tls");
    let (relay, ca) = secure_relay(&folder);
    let groups = "\
        [[group]]\nname = \"bad\"\nkind = \"abuse\"\n\
        arrivals = { model = \"open\", stages = [{ kind = \"constant\", rate = 40.0, for = \"3s\" }] }\n\
        attacks = { wrong_token = 3, wrong_proof = 3, second_join = 1, garbage = 4, no_upgrade = 3, hang = 2 }\n";
    let thresholds = "\"handoffs.completed == 100\", \"handoffs.failed == 0\", \"bad.completed == 100%\"";
    let scenario = folder.scenario(thresholds, &format!("{}{groups}", burst(100)));
    for crypto in ["real", "replay"] {
        let ended = run(&["run", &scenario, "--url", &relay.secure_url(), "--ca", &ca, "--crypto", crypto]);
        assert_eq!(ended.code, Some(0), "{crypto}: {ended:?}");
    }
}

#[test]
fn connections_over_tls_are_cut_and_come_back() {
    let folder = Folder::new("tls-storm");
    let (relay, ca) = secure_relay(&folder);
    let phones = "phone = { network = { latency = \"20ms\", jitter = \"10ms\" }, type_code = { kind = \"constant\", time = \"3s\" } }\n";
    let cut = "[[cut]]\nat = \"2s\"\n";
    let thresholds = "\"handoffs.completed == 50\", \"handoffs.setbacks >= 50\"";
    let scenario = folder.scenario(thresholds, &format!("{}{phones}{cut}", burst(50)));
    let ended = run(&["run", &scenario, "--url", &relay.secure_url(), "--ca", &ca]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_relay_whose_certificate_nobody_trusts_serves_nobody() {
    let folder = Folder::new("tls-stranger");
    let (relay, _) = secure_relay(&folder);
    let phones = "phone = { patience = \"1s\" }\n";
    let scenario = folder.scenario("\"handoffs.completed == 100%\"", &format!("{}{phones}", burst(5)));
    let ended = run(&["run", &scenario, "--url", &relay.secure_url()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.text.contains("unreachable_tls"), "{ended:?}");
}

#[test]
fn the_phones_of_a_handoff_meet_across_nodes_that_share_a_redis() {
    let (redis, folder) = (Redis::start(), Folder::new("shared"));
    let settings = format!("redis.url={}", redis.url());
    let nodes = [(); 3].map(|()| Relay::start(&[&settings])).map(Relay::until_ready);
    let cut = "phone = { type_code = { kind = \"constant\", time = \"3s\" } }\n[[cut]]\nat = \"2s\"\n";
    let json = folder.path("nodes.json");
    for (rest, setbacks) in [("", 0), (cut, 120)] {
        let thresholds = format!("\"handoffs.completed == 120\", \"handoffs.setbacks >= {setbacks}\"");
        let scenario = folder.scenario(&thresholds, &format!("{}{rest}", burst(120)));
        for crypto in ["real", "replay"] {
            let [one, two, three] = nodes.each_ref().map(Relay::url);
            let urls = ["--url", one, "--url", two, "--url", three];
            let args = [&["run", &scenario, "--json", &json, "--crypto", crypto], urls.as_slice()].concat();
            let ended = run(&args);
            assert_eq!(ended.code, Some(0), "{crypto}: {ended:?}");
            let results: Value = serde_json::from_str(&folder.read("nodes.json")).unwrap();
            assert_eq!(results["urls"].as_array().unwrap().len(), 3);
            assert_eq!(sum(group(&results, "handoffs"), "completed"), 120, "{ended:?}");
        }
    }
}
