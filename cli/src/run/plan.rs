//! What a run is asked to do, checked.

use std::path::PathBuf;

use sluice_domain::{NanoUsd, OnUnknown};

use super::output_file::Existing;
use crate::input::{Checked, FillIn, Source};

/// A run as it is asked for; its input has been checked.
#[derive(Debug)]
pub struct RunPlan {
    /// Where requests come from.
    pub source: Source,
    /// What the first look at them found.
    pub checked: Checked,
    /// What the command line adds to them.
    pub fill_in: FillIn,
    /// Where results go.
    pub output: PathBuf,
    /// What to do with what is there.
    pub existing: Existing,
    /// Calls under way at once, at most.
    pub concurrency: usize,
    /// When to stop early.
    pub limits: Limits,
    /// Tries of each job; `None` leaves it to the configuration.
    pub max_attempts: Option<u16>,
    /// What to do when an answer is not known.
    pub on_unknown: OnUnknown,
}

/// When a run stops before all is done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// No further call is started once so much was spent.
    pub max_cost: Option<NanoUsd>,
    /// What a failed job means for the others.
    pub on_failure: OnFailure,
}

/// What a failed job means for the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// They go on.
    GoOn,
    /// No further call is started.
    Stop,
}
