//! What may be used once: enrolment tokens, copy grants, and the proofs of device keys. Each is remembered until it would
//! be refused for its age anyway.

use std::time::SystemTime;

use sqlx::Row as _;

use super::{RegistryError, Tag, Tx};
use crate::activation::flow::to_millis;

impl Tx {
    /// Uses something up. `false` if somebody else has; the same user may come again.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn use_once(&mut self, token: Tag, used_by: &str, expires: SystemTime) -> Result<bool, RegistryError> {
        let query = sqlx::query(
            "INSERT INTO used_tokens (token_tag, used_by, expires) VALUES ($1, $2, $3) ON CONFLICT (token_tag) DO NOTHING",
        );
        let query = query.bind(token.to_vec()).bind(used_by).bind(to_millis(expires));
        if query.execute(&mut *self.inner).await?.rows_affected() == 1 {
            return Ok(true);
        }
        Ok(self.used_by(token).await?.is_some_and(|first| first == used_by))
    }

    /// Who used something up, if anybody.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn used_by(&mut self, token: Tag) -> Result<Option<String>, RegistryError> {
        let query = sqlx::query("SELECT used_by FROM used_tokens WHERE token_tag = $1").bind(token.to_vec());
        let first = query.fetch_optional(&mut *self.inner).await?;
        Ok(first.map(|row| row.try_get("used_by")).transpose()?)
    }

    /// Takes note of a proof. `false` if it was seen before.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn is_first_use(&mut self, proof: Tag, expires: SystemTime) -> Result<bool, RegistryError> {
        let query = sqlx::query(
            "INSERT INTO used_tokens (token_tag, used_by, expires) VALUES ($1, '', $2) ON CONFLICT (token_tag) DO NOTHING",
        );
        let query = query.bind(proof.to_vec()).bind(to_millis(expires));
        Ok(query.execute(&mut *self.inner).await?.rows_affected() == 1)
    }
}
