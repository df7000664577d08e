//! The protocol as a model: which worlds it begins with, what can happen in one, and what comes of it.

use rand::{SeedableRng, rngs::StdRng};
use sluice_domain::{Decision, ErrorClass, Outcome};
use sluice_policy::{
    backoff::RetryPolicies,
    retry::{Ending, JobStanding, Ruling, decide},
};
use stateright::{Model, Property};

use crate::{
    action::Action,
    process::{Hand, Life, Reaper, Word, Worker},
    properties,
    rules::{Bounds, Rule},
    world::{Database, IncarnationRow, Job, MAX_ATTEMPTS, Seen, Waiting, World},
};

/// The protocol within bounds, perhaps with a rule taken out.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) bounds: Bounds,
    pub(crate) without: Option<Rule>,
    /// Whether to look for examples too, so that nobody checks a world in which nothing happens.
    pub(crate) examples: &'static [&'static str],
}

impl Protocol {
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// What becomes of the job: the product's own decision.
    pub(crate) fn ruling(&self, hand: &Hand, word: Word) -> Ruling {
        let ending = match word {
            Word::Succeeded => Ending::Succeeded,
            Word::Erred => Ending::Answered(ErrorClass::ServerError),
            Word::Cut => Ending::Unknown(ErrorClass::ConnectionLost),
            Word::NotSent => Ending::NotSent(ErrorClass::NotSent),
            Word::LetGo => return let_go(),
        };
        let standing = JobStanding {
            tries: u16::from(hand.tries),
            refusals: 0,
            crashes: 0,
            max_attempts: Some(u16::from(MAX_ATTEMPTS)),
            on_unknown: self.bounds.on_unknown,
            deadline_in: None,
        };
        decide(ending, None, &standing, &RetryPolicies::default(), &mut StdRng::seed_from_u64(0))
    }

    fn first_world(&self) -> World {
        let bounds = &self.bounds;
        let worker = |number| Worker {
            life: Life::Up,
            incarnation: number,
            own_age: 0,
            knows_dead: false,
            late_ack: None,
        };
        let incarnation = |worker| Some(IncarnationRow { worker, beat_age: 0, is_dead: false });
        let reaper = Reaper {
            last_scan: (!bounds.reapers_are_new).then_some(0),
            brake: 0,
            is_jumped: false,
            is_other_server: false,
            found: Vec::new(),
        };
        World {
            db: Database {
                is_away: false,
                jobs: vec![Job::default(); bounds.jobs],
                leases: Vec::new(),
                incarnations: (0..bounds.workers).map(incarnation).collect(),
            },
            standby: None,
            hands: Vec::new(),
            workers: (0..bounds.workers).map(worker).collect(),
            reapers: vec![reaper; bounds.reapers],
            left: bounds.faults,
            seen: Seen {
                repeated: vec![0; bounds.jobs],
                released: vec![0; bounds.jobs],
                lost: vec![0; bounds.jobs],
                ..Seen::default()
            },
        }
    }
}

/// What the worker writes of a cancelled job (`worker/src/settlement.rs`).
fn let_go() -> Ruling {
    let decision =
        Decision::Requeue { delay: std::time::Duration::ZERO, spends_try: false, is_refusal: false };
    Ruling {
        outcome: Outcome::Cancelled,
        decision,
        class: Some(ErrorClass::Cancelled),
        is_retry_after_capped: false,
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.first_world()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.possible(self, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.perform(self, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::promises().into_iter().chain(properties::examples(self.examples)).collect()
    }
}

/// A job as it is submitted.
pub(crate) const FRESH: Waiting = Waiting { generation: 1, lease_no: 0, tries: 0, crashes: 0 };
