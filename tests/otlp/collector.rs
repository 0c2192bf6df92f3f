//! A collector as the relay sees one: takes spans as OTLP over HTTP, and tells what they say.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use prost::Message as _;

/// What a span or a resource says.
pub(crate) type Attributes = BTreeMap<String, String>;

/// A span that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: Vec<u8>,
    pub(crate) id: Vec<u8>,
    pub(crate) parent: Vec<u8>,
    /// The traces that it is linked to.
    pub(crate) links: Vec<Vec<u8>>,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) attributes: Attributes,
    pub(crate) resource: Attributes,
}

/// A running collector. It ends with the test's process.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let kept = web::Data::from(Arc::clone(&requests));
        std::thread::spawn(move || {
            let app = move || App::new().app_data(kept.clone()).route("/v1/traces", web::post().to(take));
            let serve = async { HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run().await };
            actix_web::rt::System::new().block_on(serve)
        });
        Self { address, requests }
    }

    /// The setting with which a relay sends here.
    pub(crate) fn setting(&self) -> String {
        format!("traces.endpoint=http://{}", self.address)
    }

    /// Everything that has arrived, as it was sent.
    pub(crate) fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let of_resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        of_resources
            .flat_map(|spans| {
                let resource = attributes(&spans.resource.unwrap_or_default().attributes);
                let sent = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
                sent.map(move |span| understood(span, &resource)).collect::<Vec<_>>()
            })
            .collect()
    }
}

async fn take(
    request: HttpRequest,
    body: web::Bytes,
    kept: web::Data<Mutex<Vec<ExportTraceServiceRequest>>>,
) -> HttpResponse {
    if request.headers().get("content-type").is_none_or(|kind| kind != "application/x-protobuf") {
        return HttpResponse::UnsupportedMediaType().finish();
    }
    let Ok(message) = ExportTraceServiceRequest::decode(body) else { return HttpResponse::BadRequest().finish() };
    kept.lock().unwrap().push(message);
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    HttpResponse::Ok().content_type("application/x-protobuf").body(answer)
}

fn understood(span: Sent, resource: &Attributes) -> Span {
    Span {
        name: span.name,
        trace: span.trace_id,
        id: span.span_id,
        parent: span.parent_span_id,
        links: span.links.into_iter().map(|link| link.trace_id).collect(),
        started: span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        resource: resource.clone(),
    }
}

fn attributes(pairs: &[KeyValue]) -> Attributes {
    pairs.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    }
}
