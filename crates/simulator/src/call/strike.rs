//! Which fault strikes a call: ordered by a header, by a marker, or by chance.

use super::received::Received;
use crate::{
    answer::PromptHash,
    api_error::ApiError,
    config::SimulatorConfig,
    fault::{Fault, FaultKind, fault_by_chance},
    random::SplitMix,
    simulator::Simulator,
};

const DRAW_FAULT: u64 = 0x00fa_0717;

/// The fault that was chosen for a call, and whether it strikes this time. Its `tokens` and `latency_ms` hold
/// either way, so that a prompt has the same answer each time.
pub(super) struct Strike {
    pub(super) fault: Fault,
    /// How often the prompt came before.
    pub(super) occurrence: u32,
}

impl Strike {
    /// The fault, if it strikes.
    pub(super) fn struck(&self) -> Option<&Fault> {
        let is_in_time = self.fault.params.times.is_none_or(|times| self.occurrence < times);
        (self.fault.kind != FaultKind::None && is_in_time).then_some(&self.fault)
    }
}

/// Chooses the fault of a call; `order` is what the client ordered.
pub(super) fn choose_fault(
    simulator: &Simulator,
    config: &SimulatorConfig,
    received: &Received,
    model: &str,
    order: Option<Fault>,
) -> Strike {
    let occurrence = occurrence_if_needed(simulator, config, received.hash, order.as_ref());
    let by_chance = || {
        let mut random = draws(config, received.hash, occurrence, DRAW_FAULT);
        fault_by_chance(&config.faults, model, &mut random)
    };
    let fault = order.or_else(by_chance).unwrap_or_else(|| Fault::new(FaultKind::None));
    Strike { fault, occurrence }
}

/// What is drawn for one call: the same for the same seed, prompt and number of times it came before.
pub(super) fn draws(config: &SimulatorConfig, hash: PromptHash, occurrence: u32, part: u64) -> SplitMix {
    SplitMix::from_parts(&[config.seed, hash.as_u64(), u64::from(occurrence), part])
}

/// What the header or the prompt orders. An order that makes no sense is refused, so that no test believes in a
/// fault that never struck.
pub(super) fn ordered_fault(
    config: &SimulatorConfig,
    received: &Received,
) -> Result<Option<Fault>, ApiError> {
    if !config.allow_ordered_faults {
        return Ok(None);
    }
    let header = received.fault_header.as_deref().map(Fault::from_header);
    let order = header.or_else(|| Fault::from_marker(&received.glimpse.prompt)).transpose();
    order.map_err(|error| ApiError::bad_request(error.to_string()).about("x-sim-fault"))
}

/// How often the prompt came before; not counted where nothing depends on it.
fn occurrence_if_needed(
    simulator: &Simulator,
    config: &SimulatorConfig,
    hash: PromptHash,
    order: Option<&Fault>,
) -> u32 {
    let latency = &config.latency;
    let is_drawn = !latency.first_token.is_fixed() || !latency.per_token.is_fixed();
    let is_counted = order.is_some_and(|fault| fault.params.times.is_some());
    if is_drawn || is_counted || !config.faults.is_empty() { simulator.occurrence(hash) } else { 0 }
}
