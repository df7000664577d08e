//! Names, looked up at the moment of connecting. A name that led to a public address when it was submitted may lead
//! elsewhere now; so what is judged is what is connected to.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

use crate::{Guard, RefusedTarget};

/// Looks names up, and leaves out what may not be called.
pub(crate) struct GuardedResolver {
    pub(crate) guard: Guard,
    pub(crate) is_encrypted: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, is_encrypted) = (self.guard.clone(), self.is_encrypted);
        Box::pin(async move {
            let mut refusal = None;
            let mut allowed: Vec<SocketAddr> = Vec::new();
            for address in lookup_host((name.as_str(), 0)).await? {
                match guard.check_address(address.ip(), is_encrypted) {
                    Ok(()) => allowed.push(address),
                    Err(refused) => refusal = Some(refused),
                }
            }
            if allowed.is_empty() {
                return Err(refusal.unwrap_or(RefusedTarget::NotCallable).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
