//! The wiring of the SMS gateways: the first, the second, and how each signs its delivery reports.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;
use zeroize::Zeroizing;

use super::StartError;
use crate::activation::https;
use crate::activation::signature::SigningKey;
use crate::activation::sms::delivery::{PATHS, Scheme};
use crate::activation::sms::gateway::SmsGateway;
use crate::activation::sms::http::{Credentials, HttpGateway, HttpGatewaySettings, Template};
use crate::config::{Settings, SmsGateway as Gateway, SmsRoute};

fn routes(settings: &Settings) -> Vec<SmsRoute<'_>> {
    std::iter::once(settings.sms.route()).chain(settings.sms_second.route()).collect()
}

/// The gateways of these settings, the preferred one first.
pub(super) fn gateways(settings: &Settings) -> Result<Vec<Arc<dyn SmsGateway>>, StartError> {
    let client = https::client(None).map_err(|_| StartError::Activation("the HTTP client cannot be built"))?;
    let mut gateways: Vec<Arc<dyn SmsGateway>> = Vec::new();
    for (at, route) in routes(settings).into_iter().enumerate() {
        let callback = callback(settings, at).filter(|_| scheme(settings, at, &route).is_ok_and(|it| it.is_some()));
        let gateway = HttpGateway::new(gateway_settings(&route, callback.as_deref())?, client.clone());
        let bad = "an SMS gateway's url must be https, or http to a loopback address; body must hold {text} and {to}, and \
                   token what can stand in a header";
        gateways.push(Arc::new(gateway.map_err(|_| StartError::Activation(bad))?));
    }
    Ok(gateways)
}

fn gateway_settings(route: &SmsRoute<'_>, callback: Option<&str>) -> Result<HttpGatewaySettings, StartError> {
    let token = route.token.map(|token| token.expose().clone()).unwrap_or_default();
    let (account, sender) = (route.account.unwrap_or_default(), route.sender.unwrap_or_default());
    Ok(match route.gateway {
        Gateway::Twilio => HttpGatewaySettings::twilio(account, &token, sender, callback),
        Gateway::Gatewayapi | Gateway::Outbox => HttpGatewaySettings::gatewayapi(&token, sender, callback),
        Gateway::Http => HttpGatewaySettings {
            address: route.url.unwrap_or_default().to_owned(),
            credentials: if token.is_empty() { Credentials::None } else { Credentials::Authorization(token) },
            template: Template::from_text(route.body.unwrap_or_default())
                .ok_or(StartError::Activation("the body of an SMS gateway is neither a JSON object nor a form"))?,
            idempotency_header: Some("Idempotency-Key".to_owned()),
            message_id: route.message_id.unwrap_or("/id").to_owned(),
        },
    })
}

/// Where the gateway at this place posts its reports, if this service knows how it is seen.
fn callback(settings: &Settings, at: usize) -> Option<String> {
    let url = Url::parse(settings.activation.public_url.as_deref()?).ok()?;
    Some(url.join(&format!("/v1/sms/reports/{}", PATHS.get(at)?)).ok()?.into())
}

/// How each gateway signs its reports, if it sends any.
pub(super) fn reports(settings: &Settings) -> Result<Vec<Option<Scheme>>, StartError> {
    routes(settings).iter().enumerate().map(|(at, route)| scheme(settings, at, route)).collect()
}

fn scheme(settings: &Settings, at: usize, route: &SmsRoute<'_>) -> Result<Option<Scheme>, StartError> {
    let key = route.report_key.map(|key| key.expose().clone());
    Ok(match (route.gateway, key) {
        (Gateway::Twilio, _) => callback(settings, at)
            .zip(route.token)
            .map(|(address, token)| Scheme::Twilio { token: token.expose().clone(), address }),
        (Gateway::Gatewayapi, Some(key)) => Some(Scheme::Jwt(key)),
        (Gateway::Http, Some(key)) => {
            let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(key.as_bytes()).unwrap_or_default());
            let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| {
                StartError::Activation("the report_key of an SMS gateway must be 32 bytes in unpadded base64url")
            })?;
            Some(Scheme::Hmac(SigningKey::new(bytes)))
        }
        (Gateway::Outbox, _) | (Gateway::Gatewayapi | Gateway::Http, None) => None,
    })
}
