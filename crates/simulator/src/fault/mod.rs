//! What can be made to go wrong, in stable words, and how a fault is ordered. Pure.
//!
//! A fault strikes a call in one of three ways; the first that applies wins:
//!
//! 1. the request's header `x-sim-fault: KIND;key=value;key=value`;
//! 2. a marker in the prompt, `[[sim:KIND key=value key=value]]`;
//! 3. by chance, from the configuration's [`FaultRule`]s, drawn from the seed, the prompt and how often that prompt
//!    came before.
//!
//! Not here: what each fault does to an answer (`fault_answer`), and the counting of `times` (`occurrences`).

mod kind;
mod order;

pub use kind::FaultKind;
pub(crate) use order::marker_in;
pub use order::{Fault, FaultParams, FaultSyntaxError};

use serde::{Deserialize, Serialize};

use crate::{error::SimulatorError, random::SplitMix};

/// A fault that strikes by chance.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What goes wrong.
    pub kind: FaultKind,
    /// How often, from 0 to 1. Of several rules at most one strikes, so they must not add up to more than 1.
    pub probability: f64,
    /// Only calls of this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Details.
    #[serde(default, skip_serializing_if = "FaultParams::is_empty")]
    pub params: FaultParams,
}

impl FaultRule {
    /// A rule for all models without details.
    pub fn new(kind: FaultKind, probability: f64) -> Self {
        Self { kind, probability, model: None, params: FaultParams::default() }
    }

    /// Refuses probabilities outside 0 to 1.
    pub(crate) fn validate_all(rules: &[Self]) -> Result<(), SimulatorError> {
        match rules.iter().find(|rule| !(0.0..=1.0).contains(&rule.probability)) {
            Some(rule) => {
                let problem = format!("faults: the probability of {} must be from 0 to 1", rule.kind);
                Err(SimulatorError::Config(problem))
            }
            None => Ok(()),
        }
    }
}

/// Draws once and says which of `rules` strikes a call of `model`, if any.
pub(crate) fn fault_by_chance(rules: &[FaultRule], model: &str, random: &mut SplitMix) -> Option<Fault> {
    let mut draw = random.next_unit();
    for rule in rules.iter().filter(|rule| rule.model.as_deref().is_none_or(|only| only == model)) {
        if draw < rule.probability {
            return Some(Fault { kind: rule.kind, params: rule.params.clone() });
        }
        draw -= rule.probability;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_as_often_as_they_should() {
        let rules = [FaultRule::new(FaultKind::Http500, 0.2), FaultRule::new(FaultKind::Hang, 0.1)];
        let mut random = SplitMix::from_parts(&[3]);
        let mut counts = [0, 0, 0];
        for _ in 0..10_000 {
            match fault_by_chance(&rules, "m", &mut random).map(|fault| fault.kind) {
                Some(FaultKind::Http500) => counts[0] += 1,
                Some(_) => counts[1] += 1,
                None => counts[2] += 1,
            }
        }
        assert!((1_850..2_150).contains(&counts[0]) && (880..1_120).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn a_rule_for_another_model_never_strikes() {
        let rule = FaultRule { model: Some("other".to_owned()), ..FaultRule::new(FaultKind::Hang, 1.0) };
        assert_eq!(fault_by_chance(&[rule], "m", &mut SplitMix::from_parts(&[4])), None);
    }
}
