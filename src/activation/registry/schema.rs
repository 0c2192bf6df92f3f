//! The tables, as migrations that are part of the program. One text for both databases, with the few words in which
//! they differ filled in.
//!
//! A migration is never changed once released; the next one is added below it.

use std::borrow::Cow;

use sqlx::SqlStr;
use sqlx::migrate::{Migrate as _, MigrateError, Migration, MigrationType};
use sqlx::{AnyConnection, AssertSqlSafe, SqlSafeStr as _};

use super::{Kind, RegistryError};

/// Where it is written down which were done.
const TABLE: &str = "_sqlx_migrations";

const TABLES: &str = "
CREATE TABLE key_marks (
    key_name TEXT PRIMARY KEY,
    mark {BYTES} NOT NULL
);
CREATE TABLE users (
    user_key TEXT PRIMARY KEY,
    user_tag {BYTES} NOT NULL UNIQUE,
    number_tag {BYTES} NOT NULL,
    number_changed BIGINT,
    created BIGINT NOT NULL,
    version BIGINT NOT NULL,
    sealed {BYTES} NOT NULL
);
CREATE TABLE apps (
    app_id TEXT PRIMARY KEY,
    user_key TEXT NOT NULL REFERENCES users (user_key) ON DELETE CASCADE,
    thumbprint TEXT NOT NULL UNIQUE,
    public_key {BYTES} NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'deleted')),
    created BIGINT NOT NULL,
    last_used BIGINT NOT NULL,
    biometrics BIGINT NOT NULL,
    version BIGINT NOT NULL,
    sealed {BYTES} NOT NULL,
    pin_record {BYTES} NOT NULL,
    pin_state {BYTES} NOT NULL
);
CREATE INDEX apps_of_user ON apps (user_key);
CREATE TABLE activations (
    activation_id TEXT PRIMARY KEY,
    user_key TEXT NOT NULL REFERENCES users (user_key) ON DELETE CASCADE,
    app_id TEXT NOT NULL UNIQUE,
    thumbprint TEXT NOT NULL UNIQUE,
    public_key {BYTES} NOT NULL,
    due TEXT NOT NULL,
    expires BIGINT NOT NULL,
    version BIGINT NOT NULL,
    sealed {BYTES} NOT NULL
);
CREATE INDEX activations_of_user ON activations (user_key);
CREATE INDEX activations_by_age ON activations (expires);
CREATE TABLE used_tokens (
    token_tag {BYTES} PRIMARY KEY,
    used_by TEXT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX used_tokens_by_age ON used_tokens (expires);
CREATE TABLE sends (
    send_id {SERIAL},
    sent BIGINT NOT NULL,
    number_tag {BYTES} NOT NULL,
    address_tag {BYTES} NOT NULL
);
CREATE INDEX sends_by_age ON sends (sent);
CREATE INDEX sends_by_number ON sends (number_tag, sent);
CREATE INDEX sends_by_address ON sends (address_tag, sent);
CREATE TABLE audit (
    entry {SERIAL},
    at BIGINT NOT NULL,
    what TEXT NOT NULL,
    actor TEXT NOT NULL,
    user_key TEXT NOT NULL,
    subject TEXT NOT NULL,
    network TEXT NOT NULL
);
CREATE INDEX audit_of_user ON audit (user_key, entry);
";

/// What became of each SMS, and events that wait for the apps that they are for.
const EVENTS: &str = "
ALTER TABLE sends ADD COLUMN status TEXT NOT NULL DEFAULT 'under_way';
ALTER TABLE sends ADD COLUMN message_tag {BYTES};
CREATE INDEX sends_by_message ON sends (message_tag);
CREATE TABLE events (
    seq {SERIAL},
    event_id TEXT NOT NULL UNIQUE,
    app_id TEXT NOT NULL REFERENCES apps (app_id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt BIGINT
);
CREATE INDEX events_of_app ON events (app_id, seq);
CREATE INDEX events_by_age ON events (created);
CREATE INDEX events_due ON events (next_attempt);
";

/// The audit trail only grows: the database itself refuses everything else.
const APPEND_ONLY_SQLITE: &str = "
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END;
";

const APPEND_ONLY_POSTGRES: &str = "
CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit trail only grows'; END $$;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_only_grows();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows();
";

/// A migration that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Its number.
    pub version: i64,
    /// What it brings.
    pub brings: String,
}

/// Does what was not done yet; nobody else may meanwhile.
pub(super) async fn bring_up(kind: Kind, connection: &mut AnyConnection) -> Result<Vec<Migrated>, RegistryError> {
    connection.ensure_migrations_table(TABLE).await?;
    if let Some(version) = connection.dirty_version(TABLE).await? {
        return Err(MigrateError::Dirty(version).into());
    }
    let (wanted, found) = (migrations(kind), connection.list_applied_migrations(TABLE).await?);
    if let Some(later) = found.iter().find(|one| !wanted.iter().any(|known| known.version == one.version)) {
        return Err(RegistryError::Later(later.version));
    }
    let mut done = Vec::new();
    for migration in wanted {
        match found.iter().find(|one| one.version == migration.version) {
            Some(found) if found.checksum != migration.checksum => {
                return Err(MigrateError::VersionMismatch(migration.version).into());
            }
            Some(_) => {}
            None => {
                connection.apply(TABLE, &migration).await?;
                done.push(Migrated { version: migration.version, brings: migration.description.into_owned() });
            }
        }
    }
    Ok(done)
}

/// All migrations for a kind of database, in their order.
fn migrations(kind: Kind) -> Vec<Migration> {
    let (bytes, serial, append_only) = match kind {
        Kind::Sqlite => ("BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT", APPEND_ONLY_SQLITE),
        Kind::Postgres => ("BYTEA", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", APPEND_ONLY_POSTGRES),
    };
    let filled = |sql: &str| sql.replace("{BYTES}", bytes).replace("{SERIAL}", serial);
    let (tables, events) = (filled(TABLES), filled(EVENTS));
    vec![
        migration(1, "tables", AssertSqlSafe(tables).into_sql_str()),
        migration(2, "the audit trail only grows", append_only.into_sql_str()),
        migration(3, "fate of SMS, and events", AssertSqlSafe(events).into_sql_str()),
    ]
}

fn migration(version: i64, description: &'static str, sql: SqlStr) -> Migration {
    Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, sql, false)
}
