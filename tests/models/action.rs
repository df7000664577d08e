//! What can be done, and which of it makes sense at a state of the model.

use proptest::{collection::vec, option, prelude::*, sample::select, strategy::Union};
use proptest_state_machine::ReferenceStateMachine;

use crate::{
    follow,
    model::{Model, NewJob, QUEUES},
    words::Word,
};

/// Where a person or a program comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    Rest,
    Sql,
    Store,
}

/// How a worker's life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// It says goodbye.
    Exit,
    /// It beats no more, and a reaper notices.
    Silence,
}

/// One step. Jobs, leases and workers are named by their number in the sequence.
#[derive(Clone, Debug)]
pub enum Action {
    Submit {
        door: Door,
        job: NewJob,
    },
    Bulk {
        door: Door,
        jobs: Vec<NewJob>,
    },
    Cancel {
        door: Door,
        job: usize,
    },
    Replay {
        door: Door,
        job: usize,
    },
    /// Not over SQL, which has no function for it.
    Release {
        door: Door,
        job: usize,
    },
    /// Not over SQL, as above.
    Pause {
        door: Door,
        queue: usize,
    },
    Resume {
        door: Door,
        queue: usize,
    },
    StartWorker {
        isolates_suspects: bool,
    },
    EndWorker {
        worker: usize,
        death: Death,
    },
    Lease {
        worker: usize,
        queue: usize,
        limit: usize,
    },
    /// A worker gives a lease back, perhaps one that is not its own.
    HandBack {
        worker: usize,
        lease: usize,
    },
    Settle {
        words: Vec<(usize, Word)>,
    },
    /// Nothing is known any more of calls that may have been made.
    Lose {
        leases: Vec<usize>,
    },
    /// The deadline of a waiting or running job goes by.
    DeadlinePasses {
        job: usize,
    },
    EndDeadlines,
}

pub struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Model;
    type Transition = Action;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Action> {
        let mut possible = vec![
            (4, (any_door(), new_job()).prop_map(|(door, job)| Action::Submit { door, job }).boxed()),
            (
                2,
                (any_door(), vec(new_job(), 1..5))
                    .prop_map(|(door, jobs)| Action::Bulk { door, jobs })
                    .boxed(),
            ),
            (1, (api_door(), 0..QUEUES).prop_map(|(door, queue)| Action::Pause { door, queue }).boxed()),
            (2, (api_door(), 0..QUEUES).prop_map(|(door, queue)| Action::Resume { door, queue }).boxed()),
            (1, Just(Action::EndDeadlines).boxed()),
        ];
        if model.workers.len() < 5 {
            let start = any::<bool>().prop_map(|isolates_suspects| Action::StartWorker { isolates_suspects });
            possible.push((2, start.boxed()));
        }
        possible.extend(actions_on_jobs(model.jobs.len()));
        possible.extend(actions_of_workers(model.workers.len(), model.leases.len()));
        Union::new_weighted(possible).boxed()
    }

    fn preconditions(model: &Model, action: &Action) -> bool {
        let (jobs, leases, workers) = (model.jobs.len(), model.leases.len(), model.workers.len());
        match action {
            Action::Cancel { job, .. }
            | Action::Replay { job, .. }
            | Action::Release { job, .. }
            | Action::DeadlinePasses { job } => *job < jobs,
            Action::EndWorker { worker, .. } | Action::Lease { worker, .. } => *worker < workers,
            Action::HandBack { worker, lease } => *worker < workers && *lease < leases,
            Action::Settle { words } => words.iter().all(|(lease, _)| *lease < leases),
            Action::Lose { leases: lost } => lost.iter().all(|lease| *lease < leases),
            _ => true,
        }
    }

    fn apply(model: Model, action: &Action) -> Model {
        follow::follow(model, action)
    }
}

type Weighted = (u32, BoxedStrategy<Action>);

fn actions_on_jobs(jobs: usize) -> Vec<Weighted> {
    if jobs == 0 {
        return Vec::new();
    }
    vec![
        (2, (any_door(), 0..jobs).prop_map(|(door, job)| Action::Cancel { door, job }).boxed()),
        (2, (any_door(), 0..jobs).prop_map(|(door, job)| Action::Replay { door, job }).boxed()),
        (2, (api_door(), 0..jobs).prop_map(|(door, job)| Action::Release { door, job }).boxed()),
        (1, (0..jobs).prop_map(|job| Action::DeadlinePasses { job }).boxed()),
    ]
}

fn actions_of_workers(workers: usize, leases: usize) -> Vec<Weighted> {
    let mut possible = Vec::new();
    if workers > 0 {
        let lease = (0..workers, 0..QUEUES, 1..4_usize);
        let lease = lease.prop_map(|(worker, queue, limit)| Action::Lease { worker, queue, limit });
        let death = select(vec![Death::Exit, Death::Silence]);
        let end = (0..workers, death).prop_map(|(worker, death)| Action::EndWorker { worker, death });
        possible.extend([(8, lease.boxed()), (2, end.boxed())]);
    }
    if leases > 0 {
        let settle = vec((0..leases, select(Word::ALL.to_vec())), 1..4).prop_map(|mut words| {
            words.sort_by_key(|(lease, _)| *lease);
            words.dedup_by_key(|(lease, _)| *lease);
            Action::Settle { words }
        });
        let hand_back =
            (0..workers, 0..leases).prop_map(|(worker, lease)| Action::HandBack { worker, lease });
        let lose = vec(0..leases, 1..3).prop_map(|mut leases| {
            leases.sort_unstable();
            leases.dedup();
            Action::Lose { leases }
        });
        possible.extend([(7, settle.boxed()), (2, hand_back.boxed()), (1, lose.boxed())]);
    }
    possible
}

fn any_door() -> impl Strategy<Value = Door> {
    select(vec![Door::Rest, Door::Sql, Door::Store])
}

fn api_door() -> impl Strategy<Value = Door> {
    select(vec![Door::Rest, Door::Store])
}

fn new_job() -> impl Strategy<Value = NewJob> {
    let key = option::weighted(0.4, 0..2_u8);
    let priority = select(vec![1_u8, 3, 3, 5]);
    (0..QUEUES, priority, key, 0..2_u8, any::<bool>(), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(queue, priority, key, content, holds, has_deadline, is_for_later)| NewJob {
            queue,
            priority,
            key,
            content,
            holds,
            has_deadline,
            is_for_later,
        },
    )
}
