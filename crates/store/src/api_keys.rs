//! API keys: made, listed, revoked, replaced, and looked up by their hash.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Utc};
use sluice_domain::{
    ApiKeyHash, ApiKeyId, KeyName, KeyRights, Network, Priority, QueueName, Scope, Scopes, TenantName,
};
use uuid::Uuid;

use crate::{Store, StoreError};

/// A key that is to be made. The key itself stays with whoever made it up.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// By which people will name it.
    pub id: ApiKeyId,
    /// Whose jobs it reaches. A tenant that is not there yet is made.
    pub tenant: TenantName,
    /// What it is called.
    pub name: KeyName,
    /// What is stored of the key.
    pub hash: ApiKeyHash,
    /// Its beginning, for people.
    pub hint: String,
    /// What it may do.
    pub rights: KeyRights,
    /// For how long; `None` means for ever.
    pub lifetime: Option<Duration>,
}

/// What replaces a key: the rights and the tenant are the old one's.
#[derive(Clone, Debug)]
pub struct NextApiKey {
    /// By which people will name it.
    pub id: ApiKeyId,
    /// What is stored of the key.
    pub hash: ApiKeyHash,
    /// Its beginning, for people.
    pub hint: String,
    /// For how long; `None` means for as long as the old one was meant.
    pub lifetime: Option<Duration>,
    /// How long the old one stays valid, unless it ends before.
    pub overlap: Duration,
}

/// A key as people see it.
#[derive(Clone, PartialEq, Debug)]
pub struct ApiKeyView {
    /// By which people name it.
    pub id: ApiKeyId,
    /// Whose jobs it reaches.
    pub tenant: TenantName,
    /// What it is called.
    pub name: KeyName,
    /// Its beginning.
    pub hint: String,
    /// What it may do.
    pub rights: KeyRights,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is not valid any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Whether it is valid now.
    pub is_valid: bool,
}

/// A valid key, as a scheduler needs it.
#[derive(Clone, PartialEq, Debug)]
pub struct ValidApiKey {
    /// Which.
    pub id: ApiKeyId,
    /// Its hash.
    pub hash: ApiKeyHash,
    /// Whose jobs it reaches.
    pub tenant: TenantName,
    /// What it may do.
    pub rights: KeyRights,
    /// For how long it is valid yet.
    pub remaining: Option<Duration>,
}

/// What was found when keys were looked up.
#[derive(Clone, PartialEq, Debug)]
pub struct KeyLookup {
    /// Whether any key was ever made, valid or not.
    pub is_any_made: bool,
    /// The newest configuration's version; 0 before the first.
    pub configuration_version: i64,
    /// Those of the keys that are valid.
    pub valid: Vec<ValidApiKey>,
}

impl Store {
    /// Makes a key, and its tenant where that is new.
    pub async fn api_key_create(&self, key: &NewApiKey) -> Result<ApiKeyView, StoreError> {
        let rights = StoredRights::of(&key.rights);
        let row = sqlx::query_as!(
            ApiKeyRow,
            r#"-- api_key_create
            WITH tenant AS (
                INSERT INTO sluice.tenants (name) VALUES ($2) ON CONFLICT (name) DO NOTHING
            )
            INSERT INTO sluice.api_keys (id, tenant, sha256, name, hint, scopes, queues, top_priority, submits_per_minute,
                                         max_waiting, networks, lifetime, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, make_interval(secs => $12),
                    clock_timestamp() + make_interval(secs => $12))
            RETURNING id, tenant, name, hint, scopes, queues, top_priority, submits_per_minute, max_waiting, networks,
                      created_at, expires_at, revoked_at, last_used_at, true AS "is_valid!""#,
            key.id.as_uuid(),
            key.tenant.as_str(),
            key.hash.0.as_slice(),
            key.name.as_str(),
            key.hint,
            &rights.scopes as _,
            rights.queues.as_deref() as _,
            rights.top_priority,
            rights.submits_per_minute,
            rights.max_waiting,
            rights.networks.as_deref() as _,
            key.lifetime.map(|lifetime| lifetime.as_secs_f64()),
        )
        .fetch_one(&self.pool)
        .await?;
        row.into_view()
    }

    /// Makes a key with the rights of another, which ends after the overlap. `None`: there is no such key, or it is not
    /// valid any more.
    pub async fn api_key_replace_if_valid(
        &self,
        old: ApiKeyId,
        next: &NextApiKey,
    ) -> Result<Option<ApiKeyView>, StoreError> {
        let row = sqlx::query_as!(
            ApiKeyRow,
            r#"-- api_key_replace_if_valid
            WITH old AS (
                SELECT k.* FROM sluice.api_keys k
                WHERE k.id = $1 AND k.revoked_at IS NULL
                  AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
                FOR NO KEY UPDATE
            ), ending AS (
                UPDATE sluice.api_keys k
                SET expires_at = least(k.expires_at, clock_timestamp() + make_interval(secs => $6))
                FROM old WHERE k.id = old.id
            )
            INSERT INTO sluice.api_keys (id, tenant, sha256, name, hint, scopes, queues, top_priority, submits_per_minute,
                                         max_waiting, networks, lifetime, expires_at)
            SELECT $2, old.tenant, $3, old.name, $4, old.scopes, old.queues, old.top_priority, old.submits_per_minute,
                   old.max_waiting, old.networks, coalesce(make_interval(secs => $5), old.lifetime),
                   clock_timestamp() + coalesce(make_interval(secs => $5), old.lifetime)
            FROM old
            RETURNING id, tenant, name, hint, scopes, queues, top_priority, submits_per_minute, max_waiting, networks,
                      created_at, expires_at, revoked_at, last_used_at, true AS "is_valid!""#,
            old.as_uuid(),
            next.id.as_uuid(),
            next.hash.0.as_slice(),
            next.hint,
            next.lifetime.map(|lifetime| lifetime.as_secs_f64()),
            next.overlap.as_secs_f64(),
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(ApiKeyRow::into_view).transpose()
    }

    /// Revokes a key; one that was revoked before stays as it was. `None`: there is no such key.
    pub async fn api_key_revoke(&self, id: ApiKeyId) -> Result<Option<ApiKeyView>, StoreError> {
        let row = sqlx::query_as!(
            ApiKeyRow,
            r#"-- api_key_revoke
            UPDATE sluice.api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = $1
            RETURNING id, tenant, name, hint, scopes, queues, top_priority, submits_per_minute, max_waiting, networks,
                      created_at, expires_at, revoked_at, last_used_at, false AS "is_valid!""#,
            id.as_uuid(),
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(ApiKeyRow::into_view).transpose()
    }

    /// The keys of a tenant, or of all, oldest first.
    pub async fn api_keys(&self, tenant: Option<&TenantName>) -> Result<Vec<ApiKeyView>, StoreError> {
        let rows = sqlx::query_as!(
            ApiKeyRow,
            r#"-- api_key_list
            SELECT id, tenant, name, hint, scopes, queues, top_priority, submits_per_minute, max_waiting, networks,
                   created_at, expires_at, revoked_at, last_used_at,
                   (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())) AS "is_valid!"
            FROM sluice.api_keys WHERE $1::text IS NULL OR tenant = $1
            ORDER BY tenant, created_at, id LIMIT 100000"#,
            tenant.map(TenantName::as_str),
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(ApiKeyRow::into_view).collect()
    }

    /// Looks up keys, ten thousand at most, and what else decides who may come in.
    pub async fn api_keys_lookup(&self, hashes: &[ApiKeyHash]) -> Result<KeyLookup, StoreError> {
        let hashes: Vec<&[u8]> = hashes.iter().map(|hash| hash.0.as_slice()).collect();
        let rows = sqlx::query!(
            r#"-- api_keys_lookup
            SELECT EXISTS (SELECT FROM sluice.api_keys) AS "is_any_made!",
                   coalesce((SELECT max(c.version) FROM sluice.configurations c), 0) AS "configuration_version!",
                   k.id AS "id?", k.sha256 AS "sha256?", k.tenant AS "tenant?", k.scopes AS "scopes?", k.queues,
                   k.top_priority AS "top_priority?", k.submits_per_minute, k.max_waiting, k.networks,
                   extract(epoch FROM k.expires_at - clock_timestamp())::float8 AS remaining_s
            FROM (SELECT) AS always
            LEFT JOIN sluice.api_keys k
              ON k.sha256 = ANY ($1::bytea[]) AND k.revoked_at IS NULL
             AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
            LIMIT 10000"#,
            &hashes as _,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut lookup = KeyLookup { is_any_made: false, configuration_version: 0, valid: Vec::new() };
        for row in rows {
            lookup.is_any_made = row.is_any_made;
            lookup.configuration_version = row.configuration_version;
            let (Some(id), Some(sha256), Some(tenant)) = (row.id, row.sha256, row.tenant) else { continue };
            let rights = StoredRights {
                scopes: row.scopes.unwrap_or_default(),
                queues: row.queues,
                top_priority: row.top_priority.unwrap_or_default(),
                submits_per_minute: row.submits_per_minute,
                max_waiting: row.max_waiting,
                networks: row.networks,
            };
            let id = ApiKeyId::from_uuid(id);
            // A key with a right that this program does not know is not used: it may be meant to do less.
            let (Ok(rights), Ok(hash)) = (rights.understood(), sha256.try_into()) else {
                tracing::warn!(key.id = %id, "an API key is refused, since a newer program made it");
                continue;
            };
            lookup.valid.push(ValidApiKey {
                id,
                hash: ApiKeyHash(hash),
                tenant: TenantName::from_stored(tenant),
                rights,
                remaining: row.remaining_s.map(|s| Duration::try_from_secs_f64(s).unwrap_or_default()),
            });
        }
        Ok(lookup)
    }

    /// Notes how long ago keys were last used. Rows that another scheduler holds or noted lately are passed over.
    pub async fn api_keys_note_use(&self, uses: &[(ApiKeyId, Duration)]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = uses.iter().map(|(id, _)| id.as_uuid()).collect();
        let ages: Vec<f64> = uses.iter().map(|(_, age)| age.as_secs_f64()).collect();
        sqlx::query!(
            r#"-- api_key_note_use_many
            WITH used AS (
                SELECT k.id, u.age FROM unnest($1::uuid[], $2::float8[]) AS u(id, age)
                JOIN sluice.api_keys k ON k.id = u.id
                WHERE k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - interval '30 seconds'
                LIMIT 100000
                FOR NO KEY UPDATE OF k SKIP LOCKED
            )
            UPDATE sluice.api_keys k
            SET last_used_at = greatest(k.last_used_at, clock_timestamp() - make_interval(secs => used.age))
            FROM used WHERE k.id = used.id"#,
            &ids,
            &ages,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Rights as the columns of a row.
struct StoredRights {
    scopes: Vec<String>,
    queues: Option<Vec<String>>,
    top_priority: i16,
    submits_per_minute: Option<i32>,
    max_waiting: Option<i32>,
    networks: Option<Vec<String>>,
}

impl StoredRights {
    fn of(rights: &KeyRights) -> Self {
        let whole =
            |count: Option<NonZeroU32>| count.map(|count| i32::try_from(count.get()).unwrap_or(i32::MAX));
        Self {
            scopes: rights.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            queues: rights.queues.as_ref().map(|queues| queues.iter().map(ToString::to_string).collect()),
            top_priority: rights.top_priority.get().into(),
            submits_per_minute: whole(rights.submits_per_minute),
            max_waiting: whole(rights.max_waiting),
            networks: rights.networks.as_ref().map(|list| list.iter().map(ToString::to_string).collect()),
        }
    }

    fn understood(self) -> Result<KeyRights, StoreError> {
        let unknown = |error: &dyn std::fmt::Display| StoreError::UnknownValue(error.to_string());
        let scopes: Result<Scopes, _> = self.scopes.iter().map(|word| word.parse::<Scope>()).collect();
        let networks: Option<Result<Vec<Network>, _>> =
            self.networks.map(|list| list.iter().map(|text| text.parse::<Network>()).collect());
        let count = |count: Option<i32>| count.and_then(|count| NonZeroU32::new(count.max(0) as u32));
        Ok(KeyRights {
            scopes: scopes.map_err(|error| unknown(&error))?,
            queues: self.queues.map(|queues| queues.into_iter().map(QueueName::from_stored).collect()),
            top_priority: Priority::new(self.top_priority.into()).map_err(|error| unknown(&error))?,
            submits_per_minute: count(self.submits_per_minute),
            max_waiting: count(self.max_waiting),
            networks: networks.transpose().map_err(|error| unknown(&error))?,
        })
    }
}

struct ApiKeyRow {
    id: Uuid,
    tenant: String,
    name: String,
    hint: String,
    scopes: Vec<String>,
    queues: Option<Vec<String>>,
    top_priority: i16,
    submits_per_minute: Option<i32>,
    max_waiting: Option<i32>,
    networks: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    is_valid: bool,
}

impl ApiKeyRow {
    fn into_view(self) -> Result<ApiKeyView, StoreError> {
        let rights = StoredRights {
            scopes: self.scopes,
            queues: self.queues,
            top_priority: self.top_priority,
            submits_per_minute: self.submits_per_minute,
            max_waiting: self.max_waiting,
            networks: self.networks,
        };
        Ok(ApiKeyView {
            id: ApiKeyId::from_uuid(self.id),
            tenant: TenantName::from_stored(self.tenant),
            name: KeyName::from_stored(self.name),
            hint: self.hint,
            rights: rights.understood()?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            last_used_at: self.last_used_at,
            is_valid: self.is_valid,
        })
    }
}
