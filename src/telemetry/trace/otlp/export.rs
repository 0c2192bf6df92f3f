//! Where spans go: a collector, in batches, as OTLP over HTTP. Knows nothing of what they say.
//!
//! The SDK sends from a thread of its own, and reads `OTEL_*` from the environment: headers, the size and
//! delay of batches, attributes of the resource. TLS is the relay's own, with ring.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tracing::warn;

use super::super::{Settings, TraceError};
use super::TRACER;

/// For one batch, connecting included. The SDK's own, which is not applied to a client that it did not make.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends spans.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

/// Starts sending. Must be called in a Tokio runtime.
///
/// # Errors
/// [`TraceError`] if the address cannot be used, or if traces are sent already.
pub fn start(settings: &Settings) -> Result<Exporter, TraceError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new()?)
        .with_endpoint(format!("{}/v1/traces", settings.endpoint.trim_end_matches('/')))
        .build()
        .map_err(|error| TraceError::Exporter(error.into()))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        // A trace that began elsewhere is kept, or not, as it was decided there.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample))))
        .with_resource(resource(settings))
        .build();
    TRACER.set(provider.tracer(env!("CARGO_PKG_NAME"))).map_err(|_| TraceError::Running)?;
    Ok(Exporter(provider))
}

fn resource(settings: &Settings) -> Resource {
    let from_environment = Resource::builder().build();
    let name = from_environment.get(&Key::from_static_str("service.name"));
    let is_named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", settings.instance.clone()),
    ]);
    if is_named { builder.build() } else { builder.with_service_name(env!("CARGO_PKG_NAME")).build() }
}

impl Exporter {
    /// Sends what is left, and ends.
    pub async fn shut_down(self) {
        // It waits for the collector, which is asked through this thread's runtime.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => warn!(%problem, "the last traces were not sent"),
            Err(problem) => warn!(%problem, "the last traces were not sent"),
        }
    }
}

/// The HTTP client, on the relay's runtime.
#[derive(Clone, Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl Client {
    fn new() -> Result<Self, TraceError> {
        let unusable = |problem: HttpError| TraceError::Exporter(problem);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT);
        let http = http.build().map_err(|error| unusable(error.into()))?;
        Ok(Self { http, runtime: Handle::current() })
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            for (name, value) in answer.headers() {
                response = response.header(name, value);
            }
            Ok(response.body(answer.bytes().await?)?)
        });
        Box::pin(async move { sent.await? })
    }
}
