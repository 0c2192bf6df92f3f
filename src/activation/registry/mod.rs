//! Where users, apps, activations and the audit trail are: an SQLite file, or PostgreSQL, through one SQL layer.
//!
//! Decides nothing about activations. Everything happens in a [`Tx`], and nothing of it is there before
//! [`Tx::commit`]. Rows are locked by writing to them: the first statement about a row that will change increments its
//! `version`, which makes everybody else wait in both databases. The order is activation, user, app.

mod activations;
mod apps;
mod audit;
mod events;
mod schema;
pub mod seal;
mod sends;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;
mod users;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::migrate::Migrate as _;
use sqlx::{Any, AnyPool, Executor as _, Row as _, Transaction};

pub use activations::ActivationRow;
pub use apps::{App, AppState};
pub use audit::{Actor, Entry, Subject, What};
pub use events::{MOST_EVENTS, StoredEvent};
pub use schema::Migrated;
pub use seal::{DoesNotOpen, Sealer, Tag};
pub use sends::{Send, SendCounts, SendId};
pub use users::{Imported, User};

/// How long a step waits for a connection, or for a locked database file, before it is refused.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a step waits for somebody else's lock, for one statement, and how long a transaction may be left open by a
/// node that does not come back: otherwise it would block others for ever.
const POSTGRES_PATIENCE: &str = "SET lock_timeout = '5s'; SET statement_timeout = '15s'; \
                                 SET idle_in_transaction_session_timeout = '30s'";

/// Tables of any size are migrated.
const POSTGRES_MIGRATES: &str = "SET lock_timeout = 0; SET statement_timeout = 0";

/// Where the registry is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file, made if it is not there.
    Sqlite(PathBuf),
    /// `postgres://…`, with all that it says about users, passwords and TLS.
    Postgres {
        /// The address.
        url: zeroize::Zeroizing<String>,
        /// Most connections at a time.
        connections: u32,
    },
}

/// The address may hold a password.
impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres { connections, .. } => {
                f.debug_struct("Postgres").field("connections", connections).finish_non_exhaustive()
            }
        }
    }
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// What keeps the registry from answering.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The database is away, locked, full, or refuses; trying again can help.
    #[error("the registry's database does not answer as it should")]
    Database(#[from] sqlx::Error),
    /// The database says nothing at all; trying again can help.
    #[error("the registry's database has not answered in time")]
    Silent,
    /// The tables cannot be made, or are those of another version.
    #[error("the registry's tables cannot be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The tables are of a later version of this program.
    #[error(
        "the registry's tables are of a later version (migration {0} is unknown): run that version, or a later one"
    )]
    Later(i64),
    /// A sealed value does not open.
    #[error(transparent)]
    Sealed(#[from] DoesNotOpen),
    /// The registry was made with another key.
    #[error("the registry was made with another {0} than the one in the data directory: restore that file")]
    OtherKey(String),
    /// A row is not what this program writes.
    #[error("the registry holds a bad {0}")]
    Corrupt(&'static str),
}

/// The registry.
#[derive(Clone, Debug)]
pub struct Registry {
    pool: AnyPool,
    kind: Kind,
    sealer: Arc<Sealer>,
    /// Held while tables are made, so that processes that start at once do it one after the other.
    lock_file: Option<PathBuf>,
}

impl Registry {
    /// Connects. SQLite makes the file; the tables are made by [`Self::migrate`].
    ///
    /// # Errors
    /// [`RegistryError::Database`] if it cannot be connected to.
    pub async fn open(location: &Location, sealer: Sealer) -> Result<Self, RegistryError> {
        sqlx::any::install_default_drivers();
        let options = AnyPoolOptions::new().acquire_timeout(BUSY_TIMEOUT);
        let (kind, pool) = match location {
            Location::Sqlite(path) => {
                let mut url = url::Url::parse("sqlite:///").map_err(|_| RegistryError::Corrupt("address"))?;
                url.set_path(&path.to_string_lossy());
                url.set_query(Some("mode=rwc"));
                // One connection: SQLite writes one transaction at a time, and waiting for a connection is fair.
                let options = options.max_connections(1).after_connect(|connection, _| {
                    Box::pin(async move {
                        // FULL: what is answered with success survives a loss of power.
                        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                                       PRAGMA busy_timeout = 5000; PRAGMA secure_delete = ON;";
                        connection.execute(pragmas).await?;
                        Ok(())
                    })
                });
                (Kind::Sqlite, options.connect(url.as_str()).await?)
            }
            Location::Postgres { url, connections } => {
                let options = options.max_connections(*connections).after_connect(|connection, _| {
                    Box::pin(async move {
                        connection.execute(POSTGRES_PATIENCE).await?;
                        Ok(())
                    })
                });
                (Kind::Postgres, options.connect(url).await?)
            }
        };
        let lock_file = match location {
            Location::Sqlite(path) => Some(path.with_added_extension("lock")),
            Location::Postgres { .. } => None,
        };
        Ok(Self { pool, kind, sealer: Arc::new(sealer), lock_file })
    }

    /// Makes the tables, or brings them up to date; returns what was done, nothing if they are.
    ///
    /// # Errors
    /// [`RegistryError::Migration`] if that is not possible, [`RegistryError::Later`] if they are ahead.
    pub async fn migrate(&self) -> Result<Vec<Migrated>, RegistryError> {
        // PostgreSQL keeps others out by itself.
        let _alone = match &self.lock_file {
            Some(path) => Some(lock(path.clone()).await.map_err(sqlx::Error::Io)?),
            None => None,
        };
        let mut connection = self.pool.acquire().await?;
        if self.kind == Kind::Postgres {
            connection.execute(POSTGRES_MIGRATES).await?;
        }
        // Locked here and not by the migrator, so that what is said to be done was done by this process.
        connection.lock().await?;
        let end = schema::bring_up(self.kind, &mut connection).await;
        connection.unlock().await?;
        if self.kind == Kind::Postgres {
            connection.execute(POSTGRES_PATIENCE).await?;
        }
        end
    }

    /// Compares marks that stand for the keys with those of the first start: a node with other keys would write what no
    /// other node can read.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] with the name of the first that differs.
    pub async fn check_keys(&self, marks: &[(&str, Tag)]) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        for (name, mark) in marks {
            let first = sqlx::query(
                "INSERT INTO key_marks (key_name, mark) VALUES ($1, $2) \
                 ON CONFLICT (key_name) DO UPDATE SET key_name = excluded.key_name RETURNING mark",
            );
            let first = first.bind((*name).to_owned()).bind(mark.to_vec()).fetch_one(&mut *tx.inner).await?;
            if first.try_get::<Vec<u8>, _>("mark")? != mark {
                return Err(RegistryError::OtherKey((*name).to_owned()));
            }
        }
        tx.commit().await
    }

    /// Begins a transaction. Without [`Tx::commit`] nothing of it happens.
    ///
    /// # Errors
    /// [`RegistryError::Database`] if there is no connection.
    pub async fn begin(&self) -> Result<Tx, RegistryError> {
        let inner = match self.begin_connected().await {
            // A file that is full ends a transaction by itself, and its connection does not know: it would be of no use
            // for ever, and there is no other.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.pool.acquire().await?.close().await?;
                self.begin_connected().await?
            }
            begun => begun?,
        };
        Ok(Tx { inner, kind: self.kind, sealer: Arc::clone(&self.sealer) })
    }

    async fn begin_connected(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.kind {
            // A transaction that begins by reading could not write after somebody else has written.
            Kind::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Kind::Postgres => self.pool.begin().await,
        }
    }

    /// What seals its contents.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Closes all connections once they are done.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A transaction: all of it happens, or nothing.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Any>,
    kind: Kind,
    sealer: Arc<Sealer>,
}

impl Tx {
    /// Makes it happen.
    ///
    /// # Errors
    /// [`RegistryError::Database`] if it did not, or if nobody knows.
    pub async fn commit(self) -> Result<(), RegistryError> {
        Ok(self.inner.commit().await?)
    }
}

/// Waits for the lock, which ends with the file.
async fn lock(path: PathBuf) -> std::io::Result<std::fs::File> {
    let locked = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::options().create(true).append(true).open(path)?;
        file.lock().map(|()| file)
    });
    locked.await.map_err(std::io::Error::other)?
}

/// A column that must be what this program writes.
fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<T, RegistryError> {
    row.try_get::<String, _>(column)?.parse().map_err(|_| RegistryError::Corrupt(column))
}
