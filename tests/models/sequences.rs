//! Sequences of actions on the product: it does what the model says.

use std::env;

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestError, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use crate::{
    action::{Action, Reference},
    system::System,
    world::World,
};

/// Sequences in a run of all tests. `PROPTEST_CASES` orders more.
const SEQUENCES: u32 = 40;
/// Actions of a sequence, at most.
const MOST_ACTIONS: usize = 40;
/// Where the seeds of sequences that failed are kept: they come first in each run.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/regressions.txt");

/// Sequences that fail.
pub struct Broken {
    /// What was not as the model says.
    pub reason: String,
    /// The actions that lead there, shrunk as far as it went.
    pub actions: Vec<Action>,
}

/// Runs sequences in the world of this thread; ends with the first that fails.
pub fn run(config: &Config) -> Result<(), Broken> {
    let sequences = Reference::sequential_strategy(1..MOST_ACTIONS);
    let mut runner = TestRunner::new(config.clone());
    let done = runner.run(&sequences, |(model, actions, seen)| {
        System::test_sequential(config.clone(), model, actions, seen);
        Ok(())
    });
    match done {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, (_, actions, _))) => Err(Broken { reason: reason.to_string(), actions }),
        Err(TestError::Abort(reason)) => panic!("no sequences could be made: {reason}"),
    }
}

#[test]
fn the_product_does_what_the_model_says() {
    let mut config = Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        max_shrink_iters: 400,
        ..Config::default()
    };
    if env::var_os("PROPTEST_CASES").is_none() {
        // A gate is no game of luck: the same sequences each time.
        config.cases = SEQUENCES;
        config.rng_seed = RngSeed::Fixed(5);
    }
    World::with(&[], || {
        if let Err(Broken { reason, actions }) = run(&config) {
            panic!("{reason}\nafter {} actions: {actions:#?}", actions.len());
        }
    });
}
