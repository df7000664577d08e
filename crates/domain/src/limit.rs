//! Limits: what an account may use of a model, and how many jobs of a queue run at once, over all workers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ModelName, QueueName, TenantName, UnknownWord};

/// Names a limit in the database: a hash of what it is about, with the kind in the lowest two bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct LimitId(pub i64);

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum LimitKind {
    /// Calls under way.
    Concurrency,
    /// Requests within a window.
    Requests,
    /// Tokens of prompts and answers within a window.
    Tokens,
}

/// What a limit is of.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum LimitSubject {
    /// What an account uses of a model, by its name there, or of all models together.
    Account {
        /// The account.
        account: String,
        /// The model; `None`: all.
        model: Option<ModelName>,
    },
    /// What runs of a tenant's queue.
    Queue {
        /// Whose.
        tenant: TenantName,
        /// Which.
        queue: QueueName,
    },
}

/// A limit as the configuration declares it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeclaredLimit {
    /// What of.
    pub subject: LimitSubject,
    /// What it counts.
    pub kind: LimitKind,
    /// Seconds of its window; 0 for concurrency, which has none.
    pub window_s: u32,
    /// So much at most.
    pub cap: u64,
    /// Where the provider does not tell how many calls it takes at once: so many at least, and the cap is the ceiling of what
    /// is believed. `None`: the cap is what it tells.
    pub floor: Option<u64>,
}

impl LimitId {
    /// What the limit counts.
    pub const fn kind(self) -> LimitKind {
        match self.0 & 3 {
            0 => LimitKind::Concurrency,
            1 => LimitKind::Requests,
            _ => LimitKind::Tokens,
        }
    }
}

impl LimitKind {
    const ALL: [Self; 3] = [Self::Concurrency, Self::Requests, Self::Tokens];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }

    const fn bits(self) -> u64 {
        match self {
            Self::Concurrency => 0,
            Self::Requests => 1,
            Self::Tokens => 2,
        }
    }
}

impl FromStr for LimitKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| UnknownWord::new("limit_kind", text, Self::ALL.iter().map(|kind| kind.as_str())))
    }
}

impl LimitSubject {
    /// The account, or nothing.
    pub fn account(&self) -> &str {
        match self {
            Self::Account { account, .. } => account,
            Self::Queue { .. } => "",
        }
    }

    /// The model, or nothing.
    pub fn model(&self) -> &str {
        match self {
            Self::Account { model: Some(model), .. } => model.as_str(),
            _ => "",
        }
    }

    /// The tenant, or nothing.
    pub fn tenant(&self) -> &str {
        match self {
            Self::Queue { tenant, .. } => tenant.as_str(),
            Self::Account { .. } => "",
        }
    }

    /// The queue, or nothing.
    pub fn queue(&self) -> &str {
        match self {
            Self::Queue { queue, .. } => queue.as_str(),
            Self::Account { .. } => "",
        }
    }

    /// From the four texts that it is stored as.
    pub fn from_stored(account: String, model: String, tenant: String, queue: String) -> Self {
        if queue.is_empty() {
            let model = Some(model).filter(|model| !model.is_empty()).map(ModelName::from_stored);
            Self::Account { account, model }
        } else {
            Self::Queue { tenant: TenantName::from_stored(tenant), queue: QueueName::from_stored(queue) }
        }
    }
}

impl DeclaredLimit {
    /// Its id: the same for all who know what it is about, whatever its cap.
    pub fn id(&self) -> LimitId {
        let subject = &self.subject;
        let window = self.window_s.to_string();
        let parts = [subject.account(), subject.model(), subject.tenant(), subject.queue(), window.as_str()];
        let hash = fnv(parts.iter().flat_map(|part| part.bytes().chain([0x1f])));
        // Folded, so that the bits that the kind takes the place of are not lost.
        LimitId((((hash ^ (hash >> 62)) & !3) | self.kind.bits()) as i64)
    }
}

/// For people: `account main, model m: tokens a minute`.
impl fmt::Display for DeclaredLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            LimitSubject::Account { account, model: Some(model) } => {
                write!(f, "account {account:?}, model {:?}: ", model.as_str())?;
            }
            LimitSubject::Account { account, model: None } => write!(f, "account {account:?}: ")?,
            LimitSubject::Queue { queue, .. } => write!(f, "queue {:?}: ", queue.as_str())?,
        }
        match (self.kind, self.window_s) {
            (LimitKind::Concurrency, _) if self.floor.is_some() => {
                write!(f, "{} at once at most, found out by trying", self.cap)
            }
            (LimitKind::Concurrency, _) => write!(f, "{} at once", self.cap),
            (kind, 1) => write!(f, "{} {} a second", self.cap, kind.as_str()),
            (kind, 60) => write!(f, "{} {} a minute", self.cap, kind.as_str()),
            (kind, 3600) => write!(f, "{} {} an hour", self.cap, kind.as_str()),
            (kind, 86_400) => write!(f, "{} {} a day", self.cap, kind.as_str()),
            (kind, seconds) => write!(f, "{} {} in {seconds} s", self.cap, kind.as_str()),
        }
    }
}

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>), mixed at the end: the same in every release and on every
/// machine, which the standard library's hashers don't promise.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(account: &str, model: Option<&str>, kind: LimitKind, window_s: u32) -> DeclaredLimit {
        let model = model.map(|name| ModelName::from_stored(name.to_owned()));
        let subject = LimitSubject::Account { account: account.to_owned(), model };
        DeclaredLimit { subject, kind, window_s, cap: 7, floor: None }
    }

    #[test]
    fn an_id_tells_its_kind_and_is_the_same_for_ever() {
        let tokens = limit("main", Some("m"), LimitKind::Tokens, 60);
        assert_eq!(tokens.id().kind(), LimitKind::Tokens);
        assert_eq!(DeclaredLimit { cap: 8, ..tokens.clone() }.id(), tokens.id());
        let others = [
            limit("main", None, LimitKind::Tokens, 60),
            limit("mainm", None, LimitKind::Tokens, 60),
            limit("main", Some("m"), LimitKind::Requests, 60),
            limit("main", Some("m"), LimitKind::Tokens, 3600),
            limit("main", Some("m"), LimitKind::Concurrency, 0),
        ];
        let ids: std::collections::BTreeSet<_> =
            others.iter().chain([&tokens]).map(DeclaredLimit::id).collect();
        assert_eq!(ids.len(), 6);
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let queue = LimitSubject::Queue { tenant: TenantName::default_tenant(), queue: QueueName::default() };
        for subject in [limit("a", Some("m"), LimitKind::Tokens, 60).subject, queue] {
            let [account, model, tenant, name] =
                [subject.account(), subject.model(), subject.tenant(), subject.queue()].map(str::to_owned);
            assert_eq!(LimitSubject::from_stored(account, model, tenant, name), subject);
        }
    }
}
