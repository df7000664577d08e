//! Which target of its route a job's call goes to, and what is in the way where there is none. Not here: the draw itself
//! (`policy::target`).

use sluice_policy::target::{Candidate, choose};
use sluice_store::PausedKind;

use crate::{
    board::BlockedBy,
    breakers::{Breakers, Gate, Ticket},
    cooldowns::gates_of,
    core::Core,
    lease::Lease,
    pauses::Pauses,
    routing::{Place, Routing, Target},
};

/// How a lane's work can be called now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Some target is free.
    Free,
    /// Nothing but the one call that tries whether an upstream works again.
    OnTrial,
    /// Not at all.
    Blocked(BlockedBy),
}

/// What stands before all of these places together.
pub(crate) fn way(places: &[Place], pauses: &Pauses, breakers: &Breakers) -> Way {
    let mut blocked: Option<BlockedBy> = None;
    let mut has_trial = false;
    for place in places {
        let by = match place {
            Place::Unusable { upstream, reason } => {
                BlockedBy::UpstreamUnusable { upstream: upstream.clone(), reason: reason.clone() }
            }
            Place::Target(target) => {
                let upstream = &target.upstream;
                let pause = pauses.of(&upstream.name, &upstream.account, target.model.as_str());
                match (pause, breakers.gate(&upstream.name)) {
                    (Some((PausedKind::Upstream, name)), _) => BlockedBy::UpstreamPaused(name),
                    (Some((PausedKind::Account, name)), _) => BlockedBy::AccountPaused(name),
                    (Some((PausedKind::Model, _)), _) => BlockedBy::ModelPaused {
                        upstream: upstream.name.clone(),
                        model: target.model.to_string(),
                    },
                    (None, Gate::Free) => return Way::Free,
                    (None, gate) => {
                        has_trial |= gate == Gate::OnTrial;
                        BlockedBy::UpstreamFailing(upstream.name.clone())
                    }
                }
            }
        };
        // What heals by itself is the better word for all of them.
        if !matches!(blocked, Some(BlockedBy::UpstreamFailing(_)))
            && (blocked.is_none() || matches!(by, BlockedBy::UpstreamFailing(_)))
        {
            blocked = Some(by);
        }
    }
    match blocked {
        Some(by) if !has_trial => Way::Blocked(by),
        _ => Way::OnTrial,
    }
}

/// Chooses a target for the call of `lease`, of those whose limits it has taken of, and lets the call pass its breaker.
/// `but_not` are upstreams that it could not be sent to.
pub(crate) fn enter(
    core: &Core,
    lease: &Lease,
    routing: &Routing,
    places: &[Place],
    but_not: &[String],
) -> Option<(Target, Ticket)> {
    let mut left: Vec<&Target> = places
        .iter()
        .filter_map(|place| match place {
            Place::Target(target) => Some(target),
            Place::Unusable { .. } => None,
        })
        .filter(|target| {
            let upstream = &target.upstream;
            !but_not.contains(&upstream.name)
                && core.pauses.of(&upstream.name, &upstream.account, target.model.as_str()).is_none()
                && core.breakers.gate(&upstream.name) != Gate::Shut
                && !is_cooling(core, target)
                && lease.has_allowance_for(target, routing)
        })
        .collect();
    loop {
        let candidates: Vec<_> = left
            .iter()
            .map(|target| Candidate {
                priority: target.priority,
                weight: target.weight,
                usual: target.upstream.pace.usual(&target.model),
            })
            .collect();
        let target = left.swap_remove(choose(&candidates, &mut rand::rng())?);
        // Another attempt may have taken the trial meanwhile.
        if let Some(ticket) = core.breakers.enter(&target.upstream.name) {
            return Some((target.clone(), ticket));
        }
    }
}

/// Whether a gate on the way there was closed since the lease.
fn is_cooling(core: &Core, target: &Target) -> bool {
    let upstream = &target.upstream;
    core.cooldowns.has_any()
        && core.cooldowns.is_closed(&gates_of(&upstream.name, &upstream.account, &target.model))
}
