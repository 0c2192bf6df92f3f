//! The one path at which a gateway posts its delivery reports. Reads, checks, counts; [`super::delivery`] knows how.
//!
//! Answers have no body, because gateways read none: 204 for a report that counts, 401 for a forged one, 400 for one
//! that is none, 413 for one that is too long. Nothing of a report is logged but its status.

use std::fmt;
use std::time::SystemTime;

use actix_web::web::{self, Bytes, PayloadConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use metrics::counter;
use tracing::warn;

use super::delivery::{BadReport, MOST_BYTES, Posted, Scheme};
use crate::telemetry;

/// Where reports are posted; what the gateway is given as callback is the public address with this path.
pub const PATH: &str = "/v1/sms/reports";

/// What the handler needs.
#[derive(Clone)]
pub struct Reports {
    /// How the gateway signs.
    pub scheme: Scheme,
    /// What time it is.
    pub clock: fn() -> SystemTime,
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// The path, to be mounted where a gateway that reports is configured.
pub fn routes(reports: Reports) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        let resource = web::resource(PATH).app_data(web::Data::new(reports)).app_data(PayloadConfig::new(MOST_BYTES));
        config.service(resource.route(web::post().to(report)));
    }
}

async fn report(request: HttpRequest, reports: web::Data<Reports>, body: Bytes) -> HttpResponse {
    let header = |name: &str| request.headers().get(name)?.to_str().ok().map(str::to_owned);
    match reports.scheme.read(Posted { header: &header, body: &body }, (reports.clock)()) {
        Ok(report) => {
            counter!(telemetry::SMS_DELIVERIES_REPORTED, "status" => report.status.label()).increment(1);
            HttpResponse::NoContent().finish()
        }
        Err(BadReport::Forged) => {
            counter!(telemetry::SMS_DELIVERIES_REPORTED, "status" => "forged").increment(1);
            warn!(event = "sms.report_forged", "a delivery report without a valid signature was refused");
            HttpResponse::Unauthorized().finish()
        }
        Err(BadReport::Malformed) => HttpResponse::BadRequest().finish(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpServer};

    use super::*;
    use crate::activation::https;
    use crate::activation::signature::SigningKey;

    fn clock() -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    /// A real server, and the statuses of real requests with these bodies.
    async fn statuses(requests: &[(&str, &str)]) -> Vec<u16> {
        let reports = Reports { scheme: Scheme::Hmac(SigningKey::new([3; 32])), clock };
        let server = HttpServer::new(move || App::new().configure(routes(reports.clone())));
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}{PATH}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let client = https::client(None).unwrap();
        let mut statuses = Vec::new();
        for (signature, body) in requests {
            let request = client.post(&address).header("webhook-id", "i").header("webhook-timestamp", "0");
            let request = request.header("webhook-signature", *signature).body((*body).to_owned());
            statuses.push(request.send().await.unwrap().status().as_u16());
        }
        statuses.push(client.get(&address).send().await.unwrap().status().as_u16());
        handle.stop(false).await;
        statuses
    }

    #[actix_web::test]
    async fn a_signed_report_counts_and_every_other_is_refused() {
        let body = r#"{"id": "a", "status": "delivered"}"#;
        let key = SigningKey::new([3; 32]);
        let signature = key.sign("i", clock(), body.as_bytes());
        let nothing = key.sign("i", clock(), b"{}");
        let long = " ".repeat(MOST_BYTES + 1);
        let requests =
            [(signature.as_str(), body), ("v1,AAAA", body), (&signature, "{}"), (&nothing, "{}"), ("", &long)];
        assert_eq!(statuses(&requests).await, [204, 401, 401, 400, 413, 405]);
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        let reports = Reports { scheme: Scheme::Hmac(SigningKey::new([3; 32])), clock };
        assert_eq!(format!("{reports:?}"), "Reports { scheme: Hmac([redacted]), .. }");
    }
}
