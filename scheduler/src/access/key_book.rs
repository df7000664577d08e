//! What is known of API keys, none of it older than [`OLDEST`].
//!
//! A key is looked up when it is first used, and again while it is used: a look that is older than [`AHEAD`] still
//! counts, and has the next one made beside the request. So a key that is in use costs its requests nothing, a revoked
//! one is refused within [`OLDEST`], and an idle scheduler asks nothing. All keys that are asked for at the same time are
//! looked up by one statement, one at a time: whoever sends made-up keys takes one connection, and no more, from the
//! others. (A copy of the whole table was turned down: it would be read again every few seconds, however few keys are
//! used. So was NOTIFY: it gets lost, and then a revoked key would stay good.)

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sluice_domain::ApiKeyHash;
use sluice_store::{KeyLookup, Store, ValidApiKey};
use tokio::time::Instant;

use super::{
    caller::{Caller, Proof},
    key_uses::KeyUses,
};
use crate::server::{ApiError, asked};

/// How old a look may be that is gone by. Together with the time that a request takes from there, below 5 s.
const OLDEST: Duration = Duration::from_secs(4);
/// From this age on the next look is made.
const AHEAD: Duration = Duration::from_secs(2);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most keys of one statement.
const MOST_ASKED: usize = 5_000;
/// The most keys that are remembered, valid or not.
const MOST_KNOWN: usize = 20_000;

pub(super) struct KeyBook {
    store: Store,
    known: Mutex<Known>,
    /// Whoever holds it asks.
    turn: tokio::sync::Mutex<()>,
    asks_ahead: AtomicBool,
    uses: KeyUses,
}

#[derive(Default)]
struct Known {
    keys: HashMap<ApiKeyHash, Look>,
    general: Option<General>,
    /// Keys that somebody waits to know of.
    wanted: HashSet<ApiKeyHash>,
    failed_at: Option<Instant>,
}

/// What a key stands for.
#[derive(Clone)]
enum Holder {
    /// Whom it lets in.
    Known(Arc<Caller>),
    /// Nobody: there is no such key that is valid.
    Nobody,
}

/// What was seen of one key.
struct Look {
    holder: Holder,
    seen_at: Instant,
    /// Whether it was used since.
    is_used: bool,
}

/// What was seen beside the keys.
#[derive(Clone, Copy)]
pub(super) struct General {
    /// Whether any key was ever made.
    pub(super) is_any_made: bool,
    /// The newest configuration's version.
    pub(super) configuration_version: i64,
    seen_at: Instant,
}

impl KeyBook {
    pub(super) fn new(store: Store, uses: KeyUses) -> Arc<Self> {
        Arc::new(Self {
            store,
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            asks_ahead: AtomicBool::new(false),
            uses,
        })
    }

    /// Who has a key; `None` where it is not valid (any more).
    pub(super) async fn find(self: &Arc<Self>, hash: ApiKeyHash) -> Result<Option<Arc<Caller>>, ApiError> {
        let asked_at = Instant::now();
        let mut found = self.look_of(hash, asked_at);
        if found.is_none() {
            self.ask_unless(asked_at, Some(hash), |known| {
                known.keys.get(&hash).is_some_and(|look| look.seen_at >= asked_at)
            })
            .await?;
            found = self.look_of(hash, asked_at);
        }
        // None here: forgotten at once, since too many others are asked for.
        match found.ok_or_else(ApiError::database_busy)? {
            Holder::Known(caller) if !caller.has_expired(Instant::now()) => {
                if let Proof::Key { id, .. } = caller.proof {
                    self.uses.note(id);
                }
                Ok(Some(caller))
            }
            Holder::Known(_) | Holder::Nobody => Ok(None),
        }
    }

    /// What counts for all.
    pub(super) async fn general(self: &Arc<Self>) -> Result<General, ApiError> {
        let asked_at = Instant::now();
        let fresh = |known: &Known| known.general.filter(|look| look.seen_at + OLDEST > asked_at);
        if let Some(look) = fresh(&self.known()) {
            self.ask_ahead_if_old(look.seen_at, asked_at);
            return Ok(look);
        }
        let answered = |known: &Known| known.general.is_some_and(|look| look.seen_at >= asked_at);
        self.ask_unless(asked_at, None, answered).await?;
        let look = self.known().general;
        look.ok_or_else(ApiError::database_unavailable)
    }

    /// What was last seen of a key, however long ago.
    pub(super) fn last_seen(&self, hash: ApiKeyHash) -> Option<Arc<Caller>> {
        match &self.known().keys.get(&hash)?.holder {
            Holder::Known(caller) => Some(Arc::clone(caller)),
            Holder::Nobody => None,
        }
    }

    /// Whether any key was made when that was last seen.
    pub(super) fn last_seen_any_made(&self) -> bool {
        self.known().general.is_some_and(|general| general.is_any_made)
    }

    fn look_of(self: &Arc<Self>, hash: ApiKeyHash, now: Instant) -> Option<Holder> {
        let mut known = self.known();
        let look = known.keys.get_mut(&hash).filter(|look| look.seen_at + OLDEST > now)?;
        look.is_used = true;
        let (holder, seen_at) = (look.holder.clone(), look.seen_at);
        drop(known);
        self.ask_ahead_if_old(seen_at, now);
        Some(holder)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_ahead_if_old(self: &Arc<Self>, seen_at: Instant, now: Instant) {
        if seen_at + AHEAD > now || self.asks_ahead.swap(true, Ordering::AcqRel) {
            return;
        }
        let book = Arc::clone(self);
        tokio::spawn(async move {
            {
                let _turn = book.turn.lock().await;
                // What fails is asked again by whoever needs it.
                let _ = book.ask().await;
            }
            book.asks_ahead.store(false, Ordering::Release);
        });
    }

    /// Asks when it is our turn, unless what we want to know was seen meanwhile. Where another's question failed
    /// meanwhile, so does ours: else each of hundreds that wait would wait in vain for as long again.
    async fn ask_unless(
        &self,
        asked_at: Instant,
        hash: Option<ApiKeyHash>,
        is_answered: impl Fn(&Known) -> bool,
    ) -> Result<(), ApiError> {
        self.known().wanted.extend(hash);
        let _turn = self.turn.lock().await;
        {
            let mut known = self.known();
            if is_answered(&known) {
                return Ok(());
            }
            if known.failed_at.is_some_and(|failed_at| failed_at >= asked_at) {
                return Err(ApiError::database_unavailable());
            }
            // It may have been taken along by a question whose asker went away.
            known.wanted.extend(hash);
        }
        self.ask().await
    }

    /// Looks up what is wanted and what was used since the last time. For whoever has the turn.
    async fn ask(&self) -> Result<(), ApiError> {
        let seen_at = Instant::now();
        let hashes = self.known().take_questions();
        match asked(PATIENCE, self.store.api_keys_lookup(&hashes)).await {
            Ok(lookup) => {
                self.known().learn(&hashes, lookup, seen_at);
                Ok(())
            }
            Err(error) => {
                self.known().failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }
}

impl Holder {
    const fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

impl Known {
    fn take_questions(&mut self) -> Vec<ApiKeyHash> {
        // Those that somebody waits for come first.
        let mut hashes: Vec<ApiKeyHash> = self.wanted.iter().copied().take(MOST_ASKED).collect();
        for hash in &hashes {
            self.wanted.remove(hash);
        }
        let used = self.keys.iter_mut().filter(|(_, look)| look.is_used && look.holder.is_known());
        for (hash, look) in used.take(MOST_ASKED.saturating_sub(hashes.len())) {
            look.is_used = false;
            hashes.push(*hash);
        }
        hashes
    }

    fn learn(&mut self, hashes: &[ApiKeyHash], lookup: KeyLookup, seen_at: Instant) {
        if self.keys.len() + hashes.len() > MOST_KNOWN {
            // What is not valid is forgotten first: there may be any number of it.
            self.keys.retain(|_, look| look.holder.is_known() && look.seen_at + OLDEST > seen_at);
        }
        let mut valid: HashMap<ApiKeyHash, Arc<Caller>> =
            lookup.valid.into_iter().map(|key| (key.hash, caller_of(key, seen_at))).collect();
        for hash in hashes {
            let holder = valid.remove(hash).map_or(Holder::Nobody, Holder::Known);
            let look = Look { holder, seen_at, is_used: false };
            self.keys.insert(*hash, look);
        }
        let KeyLookup { is_any_made, configuration_version, .. } = lookup;
        self.general = Some(General { is_any_made, configuration_version, seen_at });
    }
}

fn caller_of(key: ValidApiKey, seen_at: Instant) -> Arc<Caller> {
    let until = key.remaining.map(|remaining| seen_at + remaining);
    let proof = Proof::Key { id: key.id, hash: key.hash, until };
    Arc::new(Caller { tenant: key.tenant, rights: key.rights, proof })
}
