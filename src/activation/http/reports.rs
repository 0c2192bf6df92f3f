//! `/v1/sms/reports/first` and `/second`: where the preferred gateway and the other one post their delivery reports. Reads,
//! checks, counts; [`delivery`](crate::activation::sms::delivery) knows how. Nothing of a report is logged but its status.

use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use metrics::counter;
use tracing::{info, warn};

use super::problem::{Kind, Problem};
use super::{Http, now};
use crate::activation::sms::delivery::{BadReport, PATHS, Posted};
use crate::telemetry;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.route("/{gateway}", web::post().to(report));
}

/// 204 for a report that counts, also of a message that nobody remembers: the gateway need not send it again.
async fn report(
    request: HttpRequest,
    path: Path<String>,
    body: Result<Bytes, actix_web::Error>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let gateway = PATHS.iter().position(|known| *known == path.as_str()).ok_or(Kind::NotFound)?;
    let scheme = http.reports.get(gateway).and_then(Option::as_ref).ok_or(Kind::NotFound)?;
    let body = body.map_err(|_| Kind::BadReport)?;
    let header = |name: &str| request.headers().get(name)?.to_str().ok().map(str::to_owned);
    match scheme.read(Posted { header: &header, body: &body }, now()) {
        Ok(report) => {
            let status = report.status.label();
            let work = move |service: std::sync::Arc<crate::activation::service::Service>| async move {
                service.report(gateway, &report).await
            };
            let is_known = http.run_for_anyone(work).await?;
            counter!(telemetry::SMS_DELIVERIES_REPORTED, "status" => status).increment(1);
            info!(event = "sms.reported", status, is_known, "a gateway reported what became of an SMS");
            Ok(HttpResponse::NoContent().finish())
        }
        Err(BadReport::Forged) => {
            counter!(telemetry::SMS_DELIVERIES_REPORTED, "status" => "forged").increment(1);
            warn!(event = "sms.report_forged", "a delivery report without a valid signature was refused");
            Err(Kind::ReportForged.into())
        }
        Err(BadReport::Malformed) => Err(Kind::BadReport.into()),
    }
}
