//! Who asks: the device by its proof, the administration by its token.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HOST};
use actix_web::{FromRequest, HttpRequest, web};
use subtle::ConstantTimeEq as _;

use super::Http;
use super::problem::{Kind, Problem};
use crate::activation::device_proof::{self, BadProof, HEADER, Request};
use crate::activation::service::Caller;

/// A device that shows a proof. It is checked on the activation's own threads; whether it was used before, the service
/// finds out.
pub(super) struct Device {
    proof: Option<String>,
    method: String,
    path: String,
    host: String,
    scheme: Option<String>,
    address: Option<IpAddr>,
}

impl FromRequest for Device {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(device(request))
    }
}

fn device(request: &HttpRequest) -> Result<Device, Problem> {
    let http = request.app_data::<web::Data<Http>>().ok_or(Kind::InternalError)?;
    let mut proofs = request.headers().get_all(HEADER);
    let proof = proofs.next().and_then(|proof| proof.to_str().ok()).map(str::to_owned);
    // RFC 9449 section 4.3: not more than one.
    if proofs.next().is_some() {
        return Err(Kind::ProofInvalid.into());
    }
    let own = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let own = own.or_else(|| Some(request.headers().get(HOST)?.to_str().ok()?.to_owned())).unwrap_or_default();
    let known = http.public_url.as_ref().map(|url| (url.authority().to_owned(), url.scheme().to_owned()));
    let (host, scheme) = known.map_or((own, None), |(host, scheme)| (host, Some(scheme)));
    Ok(Device {
        proof,
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        host,
        scheme,
        address: (http.client_address)(request),
    })
}

impl Device {
    /// The caller, if the proof holds.
    pub(super) fn check(&self) -> Result<Caller, BadProof> {
        let (method, path, host, scheme) = (&self.method, &self.path, &self.host, self.scheme.as_deref());
        let proof = device_proof::check(self.proof.as_deref(), &Request { method, path, host, scheme }, super::now())?;
        Ok(Caller { proof, address: self.address })
    }
}

/// Whoever has the admin token.
pub(super) struct Admin;

impl FromRequest for Admin {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let expected = request.app_data::<web::Data<Http>>().map(|http| &http.admin_token);
        let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
        let is_right = expected.zip(shown).is_some_and(|(expected, shown)| {
            !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(shown.as_bytes()))
        });
        ready(if is_right { Ok(Self) } else { Err(Kind::AdminTokenWrong.into()) })
    }
}
