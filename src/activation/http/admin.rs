//! `/v1/admin/users`: users on file, for whoever has the admin token. User IDs travel in bodies only: paths end up in logs.
//! In paths a user is named by the registry's own key, which `look` tells.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, Query, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::apps::since_epoch;
use super::caller::Admin;
use super::problem::{Kind, Problem, Problems};
use super::{Http, answer, now};
use crate::activation::flow::Due;
use crate::activation::ids::{PhoneNumber, UserId, UserKey};
use crate::activation::registry::Imported;
use crate::activation::service::{MOST_ENTRIES, NewUser};

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .route("/users", web::put().to(put_users))
        .route("/users/look", web::post().to(look))
        .route("/users/erase", web::post().to(erase_user))
        .route("/users/{user}/audit", web::get().to(audit));
}

/// A user to be put on file.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserBody {
    /// What the person types: 3 to 64 printable ASCII characters.
    #[schema(value_type = String)]
    user_id: UserId,
    /// The holder's name, at most 200 characters.
    name: String,
    /// E.164: a plus sign and 7 to 15 digits.
    #[schema(value_type = String)]
    phone: PhoneNumber,
}

/// Users to be put on file, all or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UsersBody {
    /// The users.
    users: Vec<UserBody>,
}

/// What became of them.
#[derive(Serialize, ToSchema, Default)]
#[schema(as = Imported)]
pub(super) struct ImportedBody {
    /// Users that were not on file.
    created: usize,
    /// Users whose name or number is another one now.
    changed: usize,
    /// Users that were on file like this.
    unchanged: usize,
}

/// A user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneUserBody {
    /// The user's ID.
    #[schema(value_type = String)]
    user_id: UserId,
}

/// Puts users on file, or brings them up to date. For five days after a number was changed no SMS goes to it.
#[utoipa::path(put, path = "/v1/admin/users", request_body = UsersBody,
    params(("Authorization" = String, Header, description = "`Bearer` and the admin token")),
    responses((status = 200, description = "They are on file", body = ImportedBody), Problems))]
pub(super) async fn put_users(_: Admin, body: Json<UsersBody>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let users: Option<Vec<NewUser>> = body
        .into_inner()
        .users
        .into_iter()
        .map(|user| {
            let name = Zeroizing::new(user.name.trim().to_owned());
            NewUser::is_name(&name).then_some(NewUser { id: user.user_id, name, phone: user.phone })
        })
        .collect();
    let users = users.ok_or(Kind::BadBody)?;
    let done = http.run_for_anyone(move |service| async move { service.put_users(&users).await }).await?;
    let count = |wanted: fn(&Imported) -> bool| done.iter().filter(|imported| wanted(imported)).count();
    Ok(answer(&ImportedBody {
        created: count(|imported| matches!(imported, Imported::Created(_))),
        changed: count(|imported| matches!(imported, Imported::Changed(_) | Imported::NumberChanged(_))),
        unchanged: count(|imported| matches!(imported, Imported::Same(_))),
    }))
}

/// Erases a user with all apps and activations. The audit trail stays, under a key that names nobody any more.
#[utoipa::path(post, path = "/v1/admin/users/erase", request_body = OneUserBody,
    params(("Authorization" = String, Header, description = "`Bearer` and the admin token")),
    responses((status = 204, description = "The user is erased"), Problems))]
pub(super) async fn erase_user(_: Admin, body: Json<OneUserBody>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let id = body.into_inner().user_id;
    http.run_for_anyone(move |service| async move { service.erase_user(&id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// All that is on file of a user.
#[derive(Serialize, ToSchema)]
#[schema(as = OnFile)]
pub(super) struct OnFileBody {
    /// The registry's key of the user: names the audit trail, also after the user was erased.
    user: String,
    /// What the person types.
    user_id: String,
    /// The holder's name.
    name: String,
    /// E.164.
    phone: String,
    /// When the number was last changed, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    number_changed_ms: Option<u64>,
    /// Active apps, the oldest first.
    apps: Vec<OnFileApp>,
    /// Activations that are not over.
    pending: Vec<OnFilePending>,
    /// The last SMS to this number, the newest first.
    sms: Vec<OnFileSms>,
}

/// An active app.
#[derive(Serialize, ToSchema)]
pub(super) struct OnFileApp {
    id: String,
    name: String,
    model: String,
    created_ms: u64,
    last_used_ms: u64,
}

/// An activation that is not over.
#[derive(Serialize, ToSchema)]
pub(super) struct OnFilePending {
    id: String,
    name: String,
    model: String,
    due: Due,
}

/// An SMS.
#[derive(Serialize, ToSchema)]
pub(super) struct OnFileSms {
    /// When it was asked for, in milliseconds since 1970.
    at_ms: u64,
    /// `under_way`, `accepted` by a gateway, `delivered`, `failed`, or `unknown`: the process ended before it was known.
    status: String,
}

/// Reads all that is on file of a user.
#[utoipa::path(post, path = "/v1/admin/users/look", request_body = OneUserBody,
    params(("Authorization" = String, Header, description = "`Bearer` and the admin token")),
    responses((status = 200, description = "What is on file", body = OnFileBody), Problems))]
pub(super) async fn look(_: Admin, body: Json<OneUserBody>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let id = body.into_inner().user_id;
    let found = http.run_for_anyone(move |service| async move { service.user_on_file(&id).await }).await?;
    let app = |app: &crate::activation::registry::App| OnFileApp {
        id: app.id.to_string(),
        name: app.name.to_string(),
        model: app.model.to_string(),
        created_ms: since_epoch(app.created),
        last_used_ms: since_epoch(app.last_used),
    };
    let pending = found.pending.iter().map(|row| OnFilePending {
        id: row.id.to_string(),
        name: row.name.to_string(),
        model: row.model.to_string(),
        due: row.flow.due(now()),
    });
    let sms = found.sends.iter().map(|send| OnFileSms { at_ms: since_epoch(send.at), status: send.status.clone() });
    Ok(answer(&OnFileBody {
        user: found.user.key.to_string(),
        user_id: found.user.id.expose().to_owned(),
        name: found.user.name.to_string(),
        phone: found.user.phone.expose().to_owned(),
        number_changed_ms: found.user.number_changed.map(since_epoch),
        apps: found.apps.iter().map(app).collect(),
        pending: pending.collect(),
        sms: sms.collect(),
    }))
}

/// Which entries of an audit trail.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Entries with higher numbers; all without.
    #[serde(default)]
    after: i64,
    /// At most so many, up to 500; 100 without.
    limit: Option<u32>,
}

/// Entries of an audit trail, the oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditTrail)]
pub(super) struct TrailBody {
    /// The entries.
    entries: Vec<EntryBody>,
    /// The `after` of the next page, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// An entry of an audit trail.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct EntryBody {
    /// Its number.
    entry: i64,
    /// When, in milliseconds since 1970.
    at_ms: u64,
    /// What happened, such as `app_activated`.
    what: String,
    /// Who did it: `new app`, `app` and its id, `admin`, or `service` when a time was over.
    actor: String,
    /// To what: `user`, `app` or `activation` and its id.
    subject: String,
    /// From where: an IPv4 /24 or IPv6 /48, or nothing.
    network: String,
}

/// Reads a user's audit trail, page by page; also after the user was erased.
#[utoipa::path(get, path = "/v1/admin/users/{user}/audit",
    params(("user" = String, Path, description = "The registry's key of the user"),
           ("after" = Option<i64>, Query, description = "Entries with higher numbers; all without"),
           ("limit" = Option<u32>, Query, description = "At most so many, up to 500; 100 without"),
           ("Authorization" = String, Header, description = "`Bearer` and the admin token")),
    responses((status = 200, description = "The entries", body = TrailBody), Problems))]
pub(super) async fn audit(
    _: Admin,
    path: Path<String>,
    page: Result<Query<Page>, actix_web::Error>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let user: UserKey = path.parse().map_err(|_| Kind::UnknownUser)?;
    let page = page.map_err(|_| Kind::BadBody)?;
    let (after, most) = (page.after, page.limit.unwrap_or(100).clamp(1, MOST_ENTRIES));
    let found = http.run_for_anyone(move |service| async move { service.audit(user, after, most).await }).await?;
    let is_full = usize::try_from(most).is_ok_and(|most| found.len() >= most);
    let next = found.last().filter(|_| is_full).map(|entry| entry.number);
    let entries = found.into_iter().map(|entry| EntryBody {
        entry: entry.number,
        at_ms: since_epoch(entry.at),
        what: entry.what,
        actor: entry.actor,
        subject: entry.subject,
        network: entry.network,
    });
    Ok(answer(&TrailBody { entries: entries.collect(), next }))
}
