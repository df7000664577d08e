//! The loop that leases: look at the board, let `policy` plan, lease, hand over to the slots.
//!
//! It alone talks to the database about leases, one statement at a time; that is what makes the search for stray
//! leases safe (`stray`). It also sees to what the beat brings: a dead incarnation, a newer configuration.
//!
//! Idle, it says once that it sleeps, looks once more (what was submitted in between rang for nobody), and then looks
//! at each bell, at the next due time and at each poll interval. A bell mostly rings for one more job of where the last
//! ones came from: there it leases at once, before it looks at the board.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use sluice_domain::{IncarnationId, LaneId, LeasedJob, Priority, QueueName, TenantName};
use sluice_policy::board::{PlannedGrant, Planner};
use sluice_store::{CrashPoint, Grant, StoreError, crash_point};
use tokio::time::Instant;

use crate::{
    WorkMode, WorkerError,
    backoff::Backoff,
    board::Board,
    board_reader::BoardReader,
    core::{Core, Phase},
    incarnation::bounded,
    lease::Lease,
    lease_wait::{Next, wait},
    options::ConfigurationSource,
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
    /// Where the last jobs came from, and which pauses were known then.
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
        self.lease(wanted).await
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
        self.strays.look_if_due(core).await.map_err(|source| failed_to("look for stray leases", source))
    }

    /// Loads the configuration and looks its secrets up again. One that can't be read changes nothing: a newer
    /// program wrote it, and the worker goes on with what it knows.
    async fn reload(&mut self) -> Result<(), WorkerError> {
        let core = self.core;
        match load_routing(&core.store, self.work, &core.routing.load_full()).await {
            Ok(routing) => {
                tracing::info!(configuration.version = routing.version, "the configuration was loaded");
                core.routing.store(Arc::new(routing));
                self.board = None;
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
        let pauses = self.core.pauses.changes();
        let fresh_for = self.reader.fresh_for;
        let is_fresh = |board: &Board| {
            !board.pairs.is_empty() && board.read_at.elapsed() < fresh_for && board.pauses_seen == pauses
        };
        if self.board.as_ref().is_some_and(is_fresh) {
            return Ok(self.board.as_ref().expect("it was there a line above"));
        }
        let read_at = Instant::now();
        let entries = self.reader.read(self.core, self.work).await;
        let entries = entries.map_err(|source| failed_to("read the board", source))?;
        let board = Board::sorted(entries, &self.core.routing.load(), &self.core.pauses, read_at);
        self.note_blocked(&board);
        self.worked();
        Ok(self.board.insert(board))
    }

    fn note_blocked(&self, board: &Board) {
        let mut blocked = self.core.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        for news in board.blocked.difference(&blocked) {
            tracing::warn!(model = news.model, blocked_by = ?news.by, "jobs wait for a person");
        }
        blocked.clone_from(&board.blocked);
    }

    /// Leases where the last jobs came from. Says whether any came: if not, or if there is more, the board tells.
    async fn lease_at_bell(&mut self, wanted: usize) -> Result<bool, WorkerError> {
        let (recent, pauses_seen) = &self.recent;
        let pauses_seen = *pauses_seen;
        if recent.is_empty() || pauses_seen != self.core.pauses.changes() {
            return Ok(false);
        }
        let grant = |&(lane_id, priority)| PlannedGrant { lane_id, priority, limit: wanted as u32 };
        let planned = recent.iter().map(grant).collect();
        self.board = None;
        Ok(self.lease_planned(planned, wanted, pauses_seen).await?.is_some_and(|came| came > 0))
    }

    async fn lease(&mut self, wanted: usize) -> Result<Next, WorkerError> {
        let core = self.core;
        let pairs = self.board.as_ref().map(|board| board.pairs.as_slice()).unwrap_or_default();
        let pauses_seen = self.board.as_ref().map_or(0, |board| board.pauses_seen);
        let planned = self.planner.plan(pairs, wanted as u32);
        let Some(came) = self.lease_planned(planned, wanted, pauses_seen).await? else {
            return Ok(Next::Again);
        };
        let is_short = came < wanted;
        if is_short {
            self.board = None;
        }
        if came == 0 {
            // Jobs whose deadline has passed stand on the board and are never leased. Schedulers end them; where none
            // runs, nobody else would.
            let ended = bounded(core.store.deadlines_end(MAX_ENDED)).await;
            ended.map_err(|source| failed_to("end jobs whose deadline has passed", source))?;
            return Ok(Next::Rest(self.empty.rest()));
        }
        self.empty.reset();
        if self.is_asleep && !is_short {
            let awake = bounded(core.store.incarnation_wake(core.incarnation.id())).await;
            awake.map_err(|source| failed_to("say that there is work again", source))?;
            self.is_asleep = false;
        }
        Ok(Next::Again)
    }

    /// Leases and hands over to the slots. How many came; `None`: the incarnation is dead. `pauses_seen` are the pauses
    /// that the plan knew of: what was paused since must not be leased from again at a bell.
    async fn lease_planned(
        &mut self,
        planned: Vec<PlannedGrant>,
        wanted: usize,
        pauses_seen: u64,
    ) -> Result<Option<usize>, WorkerError> {
        let core = self.core;
        let grants: Vec<Grant> = planned.into_iter().map(|grant| self.above_floors(grant)).collect();
        let (incarnation_id, leased_at) = (core.incarnation.id(), Instant::now());
        let leased = match bounded(core.store.lease_many(incarnation_id, &grants, wanted as u32)).await {
            Ok(leased) => leased,
            Err(StoreError::IncarnationDead) => {
                core.incarnation.mark_dead(incarnation_id);
                return Ok(None);
            }
            Err(source) => {
                self.strays.soon();
                return Err(failed_to("lease jobs", source));
            }
        };
        if !leased.is_empty() {
            crash_point(CrashPoint::Leased);
        }
        core.metrics.leased(leased.len(), leased_at.elapsed());
        self.planner.note_leased(leased.iter().map(|job| (job.lane_id, job.priority)));
        self.weigh(&leased);
        let came = leased.len();
        if came > 0 {
            self.recent = (pairs_of(&leased), pauses_seen);
        }
        self.take(leased, incarnation_id, leased_at);
        // The calls leave before the next statement is made.
        tokio::task::yield_now().await;
        Ok(Some(came))
    }

    fn above_floors(&self, planned: PlannedGrant) -> Grant {
        let PlannedGrant { lane_id, priority, limit } = planned;
        Grant { lane_id, priority, limit, floors: self.reader.floors_of(lane_id, priority) }
    }

    /// Bodies of the next lease will weigh about what those of the last ones did.
    fn weigh(&mut self, leased: &[LeasedJob]) {
        if !leased.is_empty() {
            let bytes = leased.iter().map(|job| job.body.len()).sum::<usize>() / leased.len();
            self.body_bytes = (self.body_bytes + bytes).div_ceil(2).max(bytes);
        }
    }

    fn take(&self, jobs: Vec<LeasedJob>, incarnation_id: IncarnationId, leased_at: Instant) {
        let core = self.core;
        let leases: Vec<Lease> =
            jobs.into_iter().map(|job| Lease::new(job, incarnation_id, leased_at)).collect();
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
