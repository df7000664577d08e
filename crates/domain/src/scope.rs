//! What a caller may do.

use std::{fmt, str::FromStr};

use crate::UnknownWord;

/// One kind of thing that a caller may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// Submit jobs.
    Submit,
    /// Read jobs, their results and their ledger; see queues and upstreams.
    Read,
    /// Cancel jobs.
    Cancel,
    /// Start ended jobs again, and let held ones go on.
    Replay,
    /// All of that, and pause and resume queues.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] = [Self::Submit, Self::Read, Self::Cancel, Self::Replay, Self::Admin];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Cancel => "cancel",
            Self::Replay => "replay",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord::new("scope", text, Self::ALL.iter().map(|scope| scope.as_str()));
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(unknown)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self(Scope::Admin.bit());

    /// Whether it holds a scope; `admin` holds all.
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether it holds none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes that were named, in their usual order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Scope::as_str).collect();
        f.write_str(&words.join(","))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_holds_every_scope_and_the_others_only_themselves() {
        let two: Scopes = [Scope::Read, Scope::Submit].into_iter().collect();
        assert_eq!(two.to_string(), "submit,read");
        for scope in Scope::ALL {
            assert!(Scopes::ALL.allow(scope));
            assert_eq!(two.allow(scope), matches!(scope, Scope::Submit | Scope::Read), "{scope}");
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert!(!Scopes::default().allow(scope));
        }
        assert!("root".parse::<Scope>().unwrap_err().to_string().contains("submit, read"));
    }
}
