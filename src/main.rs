//! Temporary.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]
use actix_web::{App, HttpServer, web};
use handoff_relay::*;
use std::sync::Arc;
use std::time::*;
fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("info").init();
    actix_web::rt::System::new().block_on(async {
        let settings = session::Settings {
            lifetime: Duration::from_secs(std::env::var("LIFETIME").ok().map(|s| s.parse().unwrap()).unwrap_or(180)),
            intervals: vec![Duration::from_secs(5), Duration::from_secs(180)],
            refuse: Default::default(),
        };
        let dir = Arc::new(directory::memory::MemoryDirectory::new(settings.clone(), || Instant::now()));
        let mut rng = rand::rng();
        let relay = relay::Relay::new(
            settings,
            dir.clone(),
            relay::open_policy::OpenPolicy::Anyone,
            10000,
            keyed_hash::HashKey::random(&mut rng),
            relay::Clocks { monotonic: || Instant::now(), wall: || SystemTime::now() },
        );
        let rate = edge::admission::Rate {
            period: Duration::from_micros(1),
            burst: std::num::NonZeroU32::new(100000).unwrap(),
        };
        let edge = web::Data::new(edge::routes::Edge {
            relay,
            admission: edge::admission::Admission::new(
                edge::admission::Limits {
                    connections: 20000,
                    connections_per_address: 20000,
                    handshakes_per_address: rate,
                    opens_per_address: rate,
                    opens: rate,
                },
                edge::admission::RateClock::monotonic(),
            ),
            tagger: edge::network::NetworkTagger::new(keyed_hash::HashKey::random(&mut rng), Default::default()),
            forwarding_header: edge::client_addr::ForwardingHeader::XForwardedFor,
            trusted_proxies: vec![],
            allowed_origins: vec![],
            metrics: metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().unwrap(),
            ready: true.into(),
        });
        HttpServer::new(move || {
            App::new().app_data(edge.clone()).configure(edge::routes::operators).configure(edge::routes::public)
        })
        .on_connect(|io, ext| {
            if let Some(tcp) = io.downcast_ref::<actix_web::rt::net::TcpStream>() {
                let sock = socket2::SockRef::from(tcp);
                let _ = sock.set_tcp_nodelay(true);
                ext.insert(relay::link::Cord::new(sock.try_clone().unwrap()));
            }
        })
        .client_disconnect_timeout(Duration::ZERO)
        .shutdown_timeout(1)
        .workers(2)
        .bind("127.0.0.1:8080")?
        .run()
        .await
    })
}
