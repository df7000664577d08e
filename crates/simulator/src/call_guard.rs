//! Stands for a call that was received: whatever happens to its connection, the call ends exactly once, is billed
//! for what was sent, and gives its slot back.

use std::{sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use sluice_domain::{NanoUsd, Usage};
use sluice_policy::price;

use crate::{
    accounts::Admission,
    clock::wall_now,
    fault::FaultKind,
    ledger::{CallEnd, Ended},
    simulator::Simulator,
};

/// A call under way.
pub(crate) struct CallGuard {
    simulator: Arc<Simulator>,
    call: u64,
    arrived_at: DateTime<Utc>,
    /// What is struck and answered, for the record.
    pub(crate) fault: Option<FaultKind>,
    pub(crate) status: Option<u16>,
    admitted: Option<Admitted>,
    is_over: bool,
}

/// What is known of a call that was let in.
struct Admitted {
    admission: Admission,
    model: String,
    usage: Usage,
    billed_output_tokens: u64,
}

impl CallGuard {
    pub(crate) fn new(simulator: Arc<Simulator>, call: u64, arrived_at: DateTime<Utc>) -> Self {
        Self { simulator, call, arrived_at, fault: None, status: None, admitted: None, is_over: false }
    }

    /// From now on the call holds a slot; `usage` is what the whole answer takes.
    pub(crate) fn admit(&mut self, admission: Admission, model: String, usage: Usage) {
        self.simulator.call_starts();
        self.admitted = Some(Admitted { admission, model, usage, billed_output_tokens: 0 });
    }

    /// So many tokens of the answer were made.
    pub(crate) fn bill(&mut self, tokens: u64) {
        if let Some(admitted) = &mut self.admitted {
            admitted.billed_output_tokens += tokens;
        }
    }

    /// The whole answer was made, although nobody will see it.
    pub(crate) fn bill_all(&mut self) {
        self.bill(u64::MAX / 2);
    }

    /// The last byte was handed over.
    pub(crate) fn finish(mut self, ended: Ended) {
        self.end(ended);
    }

    fn end(&mut self, ended: Ended) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (usage, cost) = self.admitted.as_ref().map_or_else(Default::default, |a| a.bill(self.arrived_at));
        let end = CallEnd {
            call: self.call,
            ended,
            ended_at: wall_now(),
            status: self.status,
            fault: self.fault,
            usage: usage.into(),
            cost_nano_usd: cost,
        };
        if let Some(admitted) = &self.admitted {
            let tokens = usage.input_tokens + usage.output_tokens;
            self.simulator.accounts.leave(&admitted.admission, tokens, cost, Instant::now());
            self.simulator.call_stops();
        }
        self.simulator.record_end(end);
    }
}

impl Admitted {
    fn bill(&self, arrived_at: DateTime<Utc>) -> (Usage, NanoUsd) {
        let output_tokens = self.billed_output_tokens.min(self.usage.output_tokens);
        let reasoning_tokens = self.usage.reasoning_tokens.min(output_tokens);
        let usage = Usage { output_tokens, reasoning_tokens, ..self.usage };
        // Models that nobody prices are free here.
        let cost = price::cost(&self.model, &usage, arrived_at).unwrap_or_default();
        (usage, cost)
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.end(Ended::Cut);
    }
}
