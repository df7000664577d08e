//! The loop that leases: look at the board, let `policy` plan, lease, hand over to the slots.
//!
//! It alone talks to the database about leases, one statement at a time; that is what makes the search for stray
//! leases safe (`stray`). It also sees to what the beat brings: a dead incarnation, a newer configuration.
//!
//! Idle, it says once that it sleeps, looks once more (what was submitted in between rang for nobody), and then looks
//! at each bell, at the next due time and at each poll interval. A bell mostly rings for one more job of where the last
//! ones came from: there it leases at once, before it looks at the board.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use sluice_domain::{IncarnationId, LaneId, LeasedJob, Priority, QueueName, TenantName};
use sluice_policy::board::{PlannedGrant, Planner};
use sluice_store::{CrashPoint, Grant, LimitedGrant, StoreError, TooLarge, crash_point};
use tokio::time::Instant;
use tracing::Span;

use crate::{
    WorkMode, WorkerError,
    backoff::Backoff,
    board::{BlockedBy, Board},
    board_reader::BoardReader,
    cooldowns,
    core::{Core, Phase},
    gating::{self, LaneStanding},
    incarnation::bounded,
    lane_limits::LaneLimits,
    lease::{Allowance, Lease},
    lease_statement::{self, Asked},
    lease_wait::{Next, wait},
    options::ConfigurationSource,
    settle::Unsettled,
    settlement,
    stray::StrayWatch,
    worker::load_routing,
};

/// The most jobs of one lease statement.
const MAX_LEASE: usize = 200;
/// The most jobs that are leased at a bell without a look at the board, and of how many pairs: more would go past what
/// the plan says of shares.
const MAX_AT_BELL: usize = 8;
/// The most jobs that one maintenance statement ends.
const MAX_ENDED: u32 = 200;
/// About so many bytes of bodies come with one lease statement.
const MAX_LEASE_BYTES: usize = 32 * 1024 * 1024;
/// How large a body is taken for before any was seen.
const FIRST_BODY_BYTES: usize = 256 * 1024;

/// What the loop is for.
pub(crate) struct Work {
    pub(crate) tenant: Option<TenantName>,
    pub(crate) queues: Option<Vec<QueueName>>,
    pub(crate) mode: WorkMode,
    pub(crate) configuration: ConfigurationSource,
    pub(crate) secrets: crate::SecretLookup,
}

/// Leases until the worker is told to start nothing more, or nothing is left to do.
pub(crate) async fn run(core: &Arc<Core>, work: &Work) {
    let mut leasing = Leasing::new(core, work);
    let mut phase = core.phase.subscribe();
    while *phase.borrow_and_update() == Phase::Working {
        let next = match leasing.round().await {
            Ok(next) => next,
            Err(error) => leasing.failed(&error),
        };
        if matches!(next, Next::Finished) {
            return;
        }
        leasing.is_rung = tokio::select! {
            is_rung = wait(core, work.mode, next) => is_rung,
            _ = phase.changed() => false,
        };
    }
}

struct Leasing<'a> {
    core: &'a Arc<Core>,
    work: &'a Work,
    planner: Planner,
    board: Option<Board>,
    reader: BoardReader,
    limits: LaneLimits,
    /// What a body weighed lately, on average.
    body_bytes: usize,
    strays: StrayWatch,
    backoff: Backoff,
    /// Leases in a row that came back empty although the board showed work.
    empty: Backoff,
    /// The newest configuration that could not be understood.
    unreadable_version: i64,
    is_asleep: bool,
    /// A bell rang, and no lease was tried since.
    is_rung: bool,
    /// Where the last jobs came from, and which pauses and breakers were known then.
    recent: (Vec<(LaneId, Priority)>, u64),
    has_failed: bool,
}

impl<'a> Leasing<'a> {
    fn new(core: &'a Arc<Core>, work: &'a Work) -> Self {
        Self {
            core,
            work,
            planner: Planner::default(),
            board: None,
            reader: BoardReader::new(),
            limits: LaneLimits::default(),
            body_bytes: FIRST_BODY_BYTES,
            strays: StrayWatch::every(core.timing.lease_ttl),
            backoff: Backoff::up_to(core.timing.poll_interval),
            empty: Backoff::up_to(core.timing.poll_interval),
            unreadable_version: 0,
            is_asleep: false,
            is_rung: false,
            recent: (Vec::new(), 0),
            has_failed: false,
        }
    }

    async fn round(&mut self) -> Result<Next, WorkerError> {
        self.see_to_changes().await?;
        self.core.start_waiting();
        if !self.core.may_start() {
            return Ok(Next::Allowed);
        }
        self.core.give_back(self.core.slots.take_overdue());
        let most = (MAX_LEASE_BYTES / self.body_bytes.max(1)).clamp(1, MAX_LEASE);
        let wanted = self.core.slots.wanted().min(most);
        if wanted == 0 {
            return Ok(Next::SlotFreed);
        }
        if std::mem::take(&mut self.is_rung) && self.lease_at_bell(wanted.min(MAX_AT_BELL)).await? {
            return Ok(Next::Again);
        }
        // Looked at before the board: an attempt that is written in between may put its job on the board.
        let had_nothing = self.core.held.count() == 0;
        let board = self.fresh_board().await?;
        if board.pairs.is_empty() {
            let due_at = board.due_at;
            return self.idle(due_at, had_nothing).await;
        }
        self.lease(wanted, had_nothing).await
    }

    /// What the beat brought, and what is due by time.
    async fn see_to_changes(&mut self) -> Result<(), WorkerError> {
        let core = self.core;
        if core.incarnation.is_dead() {
            core.give_back_waiting();
            let dead = core.incarnation.renew(&core.store).await?;
            core.metrics.incarnation_renewed();
            tracing::warn!(
                incarnation.dead = %dead, incarnation.id = %core.incarnation.id(),
                "this worker had been taken for dead and goes on as a new incarnation"
            );
            self.is_asleep = false;
        }
        let newest = core.newest_configuration.load(Ordering::Relaxed);
        let has_newer = matches!(self.work.configuration, ConfigurationSource::Database)
            && newest > core.routing.load().version.max(self.unreadable_version);
        if core.wants_secrets.load(Ordering::Relaxed) || has_newer {
            self.reload().await?;
        }
        cooldowns::look(core).await.map_err(|source| failed_to("look for closed gates", source))?;
        self.strays.look_if_due(core).await.map_err(|source| failed_to("look for stray leases", source))
    }

    /// Loads the configuration and looks its secrets up again. One that can't be read changes nothing: a newer
    /// program wrote it, and the worker goes on with what it knows.
    async fn reload(&mut self) -> Result<(), WorkerError> {
        let core = self.core;
        match load_routing(&core.store, self.work, &core.routing.load_full()).await {
            Ok(routing) => {
                tracing::info!(configuration.version = routing.version, "the configuration was loaded");
                core.breakers.set_policy(routing.breaker());
                core.routing.store(Arc::new(routing));
                self.board = None;
                self.limits = LaneLimits::default();
                self.recent.0.clear();
            }
            Err(WorkerError::Configuration { version, source }) => {
                tracing::error!(configuration.version = version, error = %source, "a configuration can't be read");
                self.unreadable_version = version;
            }
            Err(other) => return Err(other),
        }
        core.wants_secrets.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn fresh_board(&mut self) -> Result<&Board, WorkerError> {
        let gates = self.core.gates_seen();
        let fresh_for = self.reader.fresh_for;
        let is_fresh = |board: &Board| {
            !board.pairs.is_empty() && board.read_at.elapsed() < fresh_for && board.gates_seen == gates
        };
        if self.board.as_ref().is_some_and(is_fresh) {
            return Ok(self.board.as_ref().expect("it was there a line above"));
        }
        let read_at = Instant::now();
        let entries = self.reader.read(self.core, self.work).await;
        let entries = entries.map_err(|source| failed_to("read the board", source))?;
        self.limits.learn(&entries, &self.core.routing.load(), &self.core.adaptive);
        self.limits.write_down(self.core).await.map_err(|source| failed_to("write down limits", source))?;
        let board = Board::sorted(entries, self.core, read_at, gates);
        self.note_blocked(&board);
        self.worked();
        Ok(self.board.insert(board))
    }

    fn note_blocked(&self, board: &Board) {
        let mut blocked = self.core.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        for news in board.blocked.difference(&blocked) {
            match &news.by {
                BlockedBy::UpstreamFailing(upstream) => {
                    tracing::warn!(model = news.model, upstream, "jobs wait until an upstream works again");
                }
                by => tracing::warn!(model = news.model, blocked_by = ?by, "jobs wait for a person"),
            }
        }
        blocked.clone_from(&board.blocked);
    }

    /// Leases where the last jobs came from. Says whether any came: if not, or if there is more, the board tells.
    async fn lease_at_bell(&mut self, wanted: usize) -> Result<bool, WorkerError> {
        let (recent, gates_seen) = &self.recent;
        let (gates_seen, limits) = (*gates_seen, &mut self.limits);
        let mut is_closed =
            |&(lane, _): &(LaneId, Priority)| gating::of_lane(self.core, limits, lane) != LaneStanding::Open;
        if recent.is_empty() || gates_seen != self.core.gates_seen() || recent.iter().any(&mut is_closed) {
            return Ok(false);
        }
        let grant = |&(lane_id, priority)| PlannedGrant { lane_id, priority, limit: wanted as u32 };
        let planned = recent.iter().map(grant).collect();
        self.board = None;
        let asked = self.lease_planned(planned, wanted, gates_seen).await?;
        Ok(asked.is_some_and(|asked| asked.jobs > 0))
    }

    async fn lease(&mut self, wanted: usize, had_nothing: bool) -> Result<Next, WorkerError> {
        let core = self.core;
        let pairs = self.board.as_ref().map(|board| board.pairs.as_slice()).unwrap_or_default();
        let gates_seen = self.board.as_ref().map_or(0, |board| board.gates_seen);
        let sorted = gating::sort(core, &mut self.limits, pairs);
        if let Some(gate) = sorted.ask {
            cooldowns::ask(core, &gate).await.map_err(|source| failed_to("ask for a closed gate", source))?;
            return Ok(Next::Again);
        }
        if sorted.open.is_empty() {
            // Full slots are waited for; what comes by time is looked for then.
            let Some(opens_at) = sorted.opens_at else { return Ok(Next::SlotFreed) };
            let due_at = self.board.as_ref().and_then(|board| board.due_at);
            return self.idle(Some(due_at.map_or(opens_at, |due| due.min(opens_at))), had_nothing).await;
        }
        let wanted = sorted.paced.as_ref().map_or(wanted, |(_, most)| wanted.min(*most));
        let mut planned = self.planner.plan(&sorted.open, wanted as u32);
        let paced = sorted.paced;
        if let Some(board) = self.board.as_ref().filter(|board| !board.on_trial.is_empty()) {
            keep_one_on_trial(&mut planned, &board.on_trial);
        }
        let Some(came) = self.lease_planned(planned, wanted, gates_seen).await? else {
            return Ok(Next::Again);
        };
        if let Some((gate, _)) = paced {
            core.cooldowns.began(&gate, came.jobs, Instant::now());
        }
        if came.is_short {
            self.board = None;
        }
        if came.jobs == 0 && came.is_short {
            // Jobs whose deadline has passed stand on the board and are never leased. Schedulers end them; where none
            // runs, nobody else would.
            let ended = bounded(core.store.deadlines_end(MAX_ENDED)).await;
            ended.map_err(|source| failed_to("end jobs whose deadline has passed", source))?;
            return Ok(Next::Rest(self.empty.rest()));
        }
        self.empty.reset();
        if self.is_asleep && came.is_all {
            let awake = bounded(core.store.incarnation_wake(core.incarnation.id())).await;
            awake.map_err(|source| failed_to("say that there is work again", source))?;
            self.is_asleep = false;
        }
        Ok(Next::Again)
    }

    /// Leases and hands over to the slots. What came; `None`: the incarnation is dead. `gates_seen` are the pauses
    /// and breakers that the plan knew of: what was closed since must not be leased from again at a bell.
    async fn lease_planned(
        &mut self,
        planned: Vec<PlannedGrant>,
        wanted: usize,
        gates_seen: u64,
    ) -> Result<Option<Came>, WorkerError> {
        let core = self.core;
        let grants: Vec<LimitedGrant> = planned.into_iter().map(|grant| self.granted(grant)).collect();
        let (incarnation_id, leased_at) = (core.incarnation.id(), Instant::now());
        let asked = match lease_statement::lease(core, incarnation_id, grants, wanted).await {
            Ok(asked) => asked,
            Err(StoreError::IncarnationDead) => {
                core.incarnation.mark_dead(incarnation_id);
                return Ok(None);
            }
            Err(source) => {
                self.strays.soon();
                return Err(failed_to("lease jobs", source));
            }
        };
        let came = Came::of(&asked);
        let lease = asked.lease;
        if came.jobs > 0 {
            crash_point(CrashPoint::Leased);
        }
        core.metrics.leased(came.jobs, leased_at.elapsed());
        self.planner.note_leased(lease.jobs.iter().map(|job| (job.lane_id, job.priority)));
        self.core.retry_budgets.note_leased(wanted, &lease.jobs);
        self.weigh(&lease.jobs);
        if came.jobs > 0 {
            self.recent = (pairs_of(&lease.jobs), gates_seen);
        }
        self.limits.are_unknown(&lease.unknown);
        self.refuse(lease.too_large, incarnation_id, leased_at);
        self.take(lease.jobs, incarnation_id, leased_at, lease.opened_after);
        // The calls leave before the next statement is made.
        tokio::task::yield_now().await;
        Ok(Some(came))
    }

    /// Above the floors, and of the lane's limits.
    fn granted(&self, planned: PlannedGrant) -> LimitedGrant {
        let PlannedGrant { lane_id, priority, limit } = planned;
        let floors = self.reader.floors_of(lane_id, priority);
        let limits = Arc::clone(&self.limits.of(lane_id).limits);
        LimitedGrant { grant: Grant { lane_id, priority, limit, floors }, limits }
    }

    /// Bodies of the next lease will weigh about what those of the last ones did.
    fn weigh(&mut self, leased: &[LeasedJob]) {
        if !leased.is_empty() {
            let bytes = leased.iter().map(|job| job.body.len()).sum::<usize>() / leased.len();
            self.body_bytes = (self.body_bytes + bytes).div_ceil(2).max(bytes);
        }
    }

    /// Jobs that are larger than a whole limit can never be called: they fail, in words that say why.
    fn refuse(&self, too_large: Vec<TooLarge>, incarnation_id: IncarnationId, leased_at: Instant) {
        for TooLarge { job, limit, needed } in too_large {
            let lease = Lease::new(job, incarnation_id, leased_at);
            self.core.held.add(&lease);
            let settlement = settlement::too_large(&lease, needed, &self.limits.text(limit));
            self.core.settler.send(Unsettled { settlement, span: Span::none() });
        }
    }

    fn take(
        &self,
        jobs: Vec<LeasedJob>,
        incarnation_id: IncarnationId,
        leased_at: Instant,
        opened_after: Duration,
    ) {
        let core = self.core;
        let with_allowance = |job: LeasedJob| {
            let limits = Arc::clone(&self.limits.of(job.lane_id).limits);
            let allowance = Allowance { limits, taken_at: leased_at + opened_after };
            Lease { allowance, ..Lease::new(job, incarnation_id, leased_at) }
        };
        let leases: Vec<Lease> = jobs.into_iter().map(with_allowance).collect();
        for lease in &leases {
            core.metrics.job_waited(lease.job.queue.as_str(), lease.job.waited);
            core.held.add(lease);
        }
        core.slots.push(leases);
        core.start_waiting();
    }

    async fn idle(&mut self, due_at: Option<Instant>, had_nothing: bool) -> Result<Next, WorkerError> {
        if self.work.mode == WorkMode::UntilIdle && had_nothing && due_at.is_none() {
            return Ok(Next::Finished);
        }
        if !self.is_asleep {
            let asleep = bounded(self.core.store.incarnation_sleep(self.core.incarnation.id())).await;
            asleep.map_err(|source| failed_to("say that there is no work", source))?;
            self.is_asleep = true;
            return Ok(Next::Again);
        }
        // The last attempt was written while the board was read: it may have ended everything.
        let has_nothing_now = self.core.held.count() == 0 && !had_nothing;
        if self.work.mode == WorkMode::UntilIdle && has_nothing_now {
            return Ok(Next::Again);
        }
        Ok(Next::Work { due_at })
    }

    fn failed(&mut self, error: &WorkerError) -> Next {
        if !self.has_failed {
            let source = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, source, "no work can be leased; it is tried again");
            self.has_failed = true;
        }
        self.board = None;
        self.reader.forget();
        Next::Rest(self.backoff.rest())
    }

    fn worked(&mut self) {
        if self.has_failed {
            tracing::info!("work can be leased again");
            self.has_failed = false;
        }
        self.backoff.reset();
    }
}

/// Of all lanes that may only try whether their upstream works again, one job is taken.
fn keep_one_on_trial(planned: &mut Vec<PlannedGrant>, on_trial: &HashSet<LaneId>) {
    let mut has_one = false;
    planned.retain_mut(|grant| {
        if !on_trial.contains(&grant.lane_id) {
            return true;
        }
        grant.limit = grant.limit.min(1);
        !std::mem::replace(&mut has_one, true)
    });
}

/// What came of a lease statement.
#[derive(Clone, Copy, Debug)]
struct Came {
    jobs: usize,
    /// All that was asked for.
    is_all: bool,
    /// The board showed more than was there.
    is_short: bool,
}

impl Came {
    fn of(asked: &Asked) -> Self {
        let jobs = asked.lease.jobs.len();
        Self { jobs, is_all: jobs >= asked.wanted, is_short: asked.is_short() }
    }
}

/// The first few pairs that these jobs came from.
fn pairs_of(jobs: &[LeasedJob]) -> Vec<(LaneId, Priority)> {
    let mut pairs = Vec::new();
    for job in jobs {
        let pair = (job.lane_id, job.priority);
        if pairs.len() < MAX_AT_BELL && !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs
}

fn failed_to(doing: &'static str, source: StoreError) -> WorkerError {
    WorkerError::Store { doing, source }
}
