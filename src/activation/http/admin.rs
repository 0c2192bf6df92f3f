//! `/v1/admin/users`: users on file, for whoever has the admin token. User IDs travel in bodies only: paths end up in logs.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::caller::Admin;
use super::problem::{Kind, Problem, Problems};
use super::{Http, answer};
use crate::activation::ids::{PhoneNumber, UserId};
use crate::activation::registry::Imported;
use crate::activation::service::NewUser;

/// Longest name of a person, in characters.
const MOST_NAME: usize = 200;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.route("/users", web::put().to(put_users)).route("/users/erase", web::post().to(erase_user));
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
pub(super) struct EraseBody {
    /// The user's ID.
    #[schema(value_type = String)]
    user_id: UserId,
}

/// Puts users on file, or brings them up to date. For five days after a number was changed no SMS goes to it.
#[utoipa::path(put, path = "/v1/admin/users", request_body = UsersBody,
    params(("Authorization" = String, Header, description = "`Bearer` and the admin token")),
    responses((status = 200, description = "They are on file", body = ImportedBody), Problems))]
pub(super) async fn put_users(_: Admin, body: Json<UsersBody>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let is_name = |name: &str| (1..=MOST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    let users: Option<Vec<NewUser>> = body
        .into_inner()
        .users
        .into_iter()
        .map(|user| {
            let name = Zeroizing::new(user.name.trim().to_owned());
            is_name(&name).then_some(NewUser { id: user.user_id, name, phone: user.phone })
        })
        .collect();
    let done = http.service.put_users(&users.ok_or(Kind::BadBody)?).await?;
    let count = |wanted: fn(&Imported) -> bool| done.iter().filter(|imported| wanted(imported)).count();
    Ok(answer(&ImportedBody {
        created: count(|imported| matches!(imported, Imported::Created(_))),
        changed: count(|imported| matches!(imported, Imported::Changed(_))),
        unchanged: count(|imported| matches!(imported, Imported::Same(_))),
    }))
}

/// Erases a user with all apps and activations. The audit trail stays, under a key that names nobody any more.
#[utoipa::path(post, path = "/v1/admin/users/erase", request_body = EraseBody,
    params(("Authorization" = String, Header, description = "`Bearer` and the admin token")),
    responses((status = 204, description = "The user is erased"), Problems))]
pub(super) async fn erase_user(_: Admin, body: Json<EraseBody>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    http.service.erase_user(&body.user_id).await?;
    Ok(HttpResponse::NoContent().finish())
}
