//! Names of spans, metrics and fields, once.
//!
//! `gen_ai.*`, `http.*`, `server.*` and `error.type` are OpenTelemetry's semantic conventions (GenAI: status
//! Development). Nothing is defined there for queue wait, retries, limits or cost: those are `sluice.*`.

/// Names of tracing spans. What a trace viewer shows is the more telling `otel.name` of each.
pub mod span {
    /// An HTTP request that the scheduler answers.
    pub const SERVER: &str = "request";
    /// Jobs are accepted and stored.
    pub const SUBMIT: &str = "submit";
    /// One attempt: from the lease to the settling.
    pub const ATTEMPT: &str = "attempt";
    /// One HTTP call to an upstream.
    pub const CALL: &str = "call";
}

/// Names of span attributes, log fields and metric labels.
pub mod field {
    /// What the call does: `chat`, `text_completion`, `embeddings`, ….
    pub const GEN_AI_OPERATION_NAME: &str = "gen_ai.operation.name";
    /// Which dialect: `deepseek`, `openai`.
    pub const GEN_AI_PROVIDER_NAME: &str = "gen_ai.provider.name";
    /// The model asked for.
    pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai.request.model";
    /// `max_tokens` of the request.
    pub const GEN_AI_REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
    /// `temperature` of the request.
    pub const GEN_AI_REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
    /// `top_p` of the request.
    pub const GEN_AI_REQUEST_TOP_P: &str = "gen_ai.request.top_p";
    /// `seed` of the request.
    pub const GEN_AI_REQUEST_SEED: &str = "gen_ai.request.seed";
    /// Whether the answer is streamed.
    pub const GEN_AI_REQUEST_STREAM: &str = "gen_ai.request.stream";
    /// The provider's id of the answer.
    pub const GEN_AI_RESPONSE_ID: &str = "gen_ai.response.id";
    /// The model that answered.
    pub const GEN_AI_RESPONSE_MODEL: &str = "gen_ai.response.model";
    /// Why each choice ended.
    pub const GEN_AI_RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
    /// Seconds until the first chunk of a stream.
    pub const GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
    /// Tokens of the prompt.
    pub const GEN_AI_USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
    /// Tokens of the answer.
    pub const GEN_AI_USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
    /// Tokens of the prompt that the provider had cached.
    pub const GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
    /// Tokens of the answer that were reasoning.
    pub const GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
    /// `input` or `output`.
    pub const GEN_AI_TOKEN_TYPE: &str = "gen_ai.token.type";
    /// The class of a failure, a stable word.
    pub const ERROR_TYPE: &str = "error.type";
    /// Host of the upstream.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// Port of the upstream.
    pub const SERVER_PORT: &str = "server.port";
    /// HTTP method.
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    /// The route's pattern, never the path with its ids.
    pub const HTTP_ROUTE: &str = "http.route";
    /// HTTP status.
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    /// A job's id.
    pub const JOB_ID: &str = "sluice.job.id";
    /// Which life of the job.
    pub const JOB_GENERATION: &str = "sluice.job.generation";
    /// How many jobs a submit holds.
    pub const JOB_COUNT: &str = "sluice.job.count";
    /// Which state jobs are in.
    pub const JOB_STATE: &str = "sluice.job.state";
    /// Whose.
    pub const TENANT: &str = "sluice.tenant";
    /// The line.
    pub const QUEUE: &str = "sluice.queue";
    /// The upstream's name in the configuration.
    pub const UPSTREAM: &str = "sluice.upstream";
    /// What a provider counts limits against.
    pub const ACCOUNT: &str = "sluice.account";
    /// What a limit counts: `concurrency`, `requests`, `tokens`.
    pub const LIMIT_KIND: &str = "sluice.limit.kind";
    /// Seconds of a limit's window.
    pub const LIMIT_WINDOW_S: &str = "sluice.limit.window";
    /// What a gate or a pause is of: `upstream`, `account`, `model`.
    pub const GATE_KIND: &str = "sluice.gate.kind";
    /// Its name; of a model that of the upstream, a space, and the model's.
    pub const GATE_NAME: &str = "sluice.gate.name";
    /// One call's id, as on the ledger.
    pub const CALL_ID: &str = "sluice.call.id";
    /// Which lease of the job.
    pub const LEASE_NO: &str = "sluice.attempt.lease_no";
    /// Tries spent before.
    pub const TRIES: &str = "sluice.attempt.tries";
    /// How an attempt ended.
    pub const OUTCOME: &str = "sluice.attempt.outcome";
    /// What came of a try to tell of a job's end.
    pub const WEBHOOK_OUTCOME: &str = "sluice.webhook.outcome";
    /// Seconds that a job could have run but waited.
    pub const QUEUE_WAIT_S: &str = "sluice.queue.wait";
    /// Seconds until the next attempt.
    pub const RETRY_DELAY_S: &str = "sluice.retry.delay";
    /// What a call cost, in USD.
    pub const COST_USD: &str = "sluice.cost.usd";
    /// How jobs came in: `rest`, `grpc`, `sql`, `cli`.
    pub const PROTOCOL: &str = "sluice.protocol";
    /// Why jobs are held.
    pub const HOLD_REASON: &str = "sluice.hold.reason";
    /// How a worker's death was noticed: `silent`, `known`.
    pub const DEATH: &str = "sluice.death";
    /// What engaged the brake: `started`, `postmaster`, `outage`, `clock`.
    pub const BRAKE_CAUSE: &str = "sluice.brake.cause";
    /// How old a worker's last beat is: `fresh`, `late`, `silent`.
    pub const BEAT: &str = "sluice.beat";
}

/// Names of metrics. On `/metrics` dots are underscores, and units and `_total` are appended.
pub mod metric {
    /// Seconds of one call.
    pub const OPERATION_DURATION: &str = "gen_ai.client.operation.duration";
    /// Tokens of one call, by type.
    pub const TOKEN_USAGE: &str = "gen_ai.client.token.usage";
    /// Seconds to the first chunk of a stream.
    pub const TIME_TO_FIRST_CHUNK: &str = "gen_ai.client.operation.time_to_first_chunk";
    /// Seconds of an HTTP request that was answered.
    pub const HTTP_SERVER_DURATION: &str = "http.server.request.duration";
    /// Jobs by queue and state.
    pub const JOBS: &str = "sluice.jobs";
    /// Age in seconds of the oldest job that could run.
    pub const OLDEST_AGE: &str = "sluice.queue.oldest_age";
    /// Seconds of one try to tell of a job's end, by what came of it.
    pub const WEBHOOK_DURATION: &str = "sluice.webhook.duration";
    /// Jobs accepted.
    pub const SUBMITTED: &str = "sluice.jobs.submitted";
    /// Held jobs, by reason.
    pub const JOBS_HELD: &str = "sluice.jobs.held";
    /// Leases that were taken from dead workers, by how the death was noticed.
    pub const LEASES_EXPIRED: &str = "sluice.leases.expired";
    /// Leases of dead or silent workers that nobody has taken from them yet.
    pub const LEASES_OVERDUE: &str = "sluice.leases.overdue";
    /// Age in seconds of the oldest such lease, from the moment it could have been taken.
    pub const LEASES_OVERDUE_AGE: &str = "sluice.leases.overdue_age";
    /// Workers that are not known to be dead, by the age of their last beat.
    pub const INCARNATIONS: &str = "sluice.incarnations";
    /// Workers that were found dead, by how it was noticed.
    pub const INCARNATIONS_DIED: &str = "sluice.incarnations.died";
    /// Lives that a worker began because it had been taken for dead.
    pub const INCARNATIONS_RENEWED: &str = "sluice.incarnations.renewed";
    /// 1 while the reaper marks nobody dead because it can't trust what it sees.
    pub const BRAKE_ENGAGED: &str = "sluice.brake.engaged";
    /// How often the brake was engaged, by cause.
    pub const BRAKE_ENGAGEMENTS: &str = "sluice.brake.engagements";
    /// Leases granted.
    pub const LEASES: &str = "sluice.leases";
    /// Seconds of one lease statement.
    pub const LEASE_DURATION: &str = "sluice.lease.duration";
    /// Seconds that leased jobs had waited.
    pub const QUEUE_WAIT: &str = "sluice.queue.wait";
    /// Calls under way.
    pub const IN_FLIGHT: &str = "sluice.calls.in_flight";
    /// Attempts by outcome and class.
    pub const ATTEMPTS: &str = "sluice.attempts";
    /// Attempts whose call was sent and whose answer is not known.
    pub const ATTEMPTS_UNKNOWN: &str = "sluice.attempts.unknown";
    /// Calls of suspects: jobs with two crashes behind them, each in a process of its own.
    pub const SUSPECTS_CALLED: &str = "sluice.suspects.called";
    /// Suspects that crashed their process and are held as poison.
    pub const SUSPECTS_CRASHED: &str = "sluice.suspects.crashed";
    /// Suspects that went back for want of a process.
    pub const SUSPECTS_PUT_OFF: &str = "sluice.suspects.put_off";
    /// How much a limit allows now; of one that is found out by trying, what is believed.
    pub const LIMIT_CAP: &str = "sluice.limit.cap";
    /// How much of a limit is spent or reserved.
    pub const LIMIT_USED: &str = "sluice.limit.used";
    /// Seconds for which a gate is still closed that its upstream closed.
    pub const GATE_CLOSED: &str = "sluice.gate.closed";
    /// 1 while an upstream, an account or a model is paused.
    pub const PAUSED: &str = "sluice.paused";
    /// 1 while the breaker of an upstream is open.
    pub const BREAKER_OPEN: &str = "sluice.breaker.open";
    /// Attempts settled together.
    pub const SETTLE_GROUP_SIZE: &str = "sluice.settle.group_size";
    /// Seconds of one settle statement.
    pub const SETTLE_DURATION: &str = "sluice.settle.duration";
    /// Writes refused because their lease was no longer the job's.
    pub const STALE_WRITES: &str = "sluice.settle.stale_writes";
    /// Answers kept although their lease had ended.
    pub const LATE_RESULTS: &str = "sluice.settle.late_results";
    /// Bytes of outcomes that wait in the spool.
    pub const SPOOL_SIZE: &str = "sluice.spool.size";
    /// Outcomes that wait in the spool.
    pub const SPOOL_OUTCOMES: &str = "sluice.spool.outcomes";
    /// Outcomes that were taken over from dead workers.
    pub const SPOOL_ADOPTED: &str = "sluice.spool.adopted";
    /// Damaged records in spools.
    pub const SPOOL_CORRUPT: &str = "sluice.spool.corrupt";
    /// Groups of outcomes that could not be brought to the spool.
    pub const SPOOL_FAILED: &str = "sluice.spool.failed";
    /// Beats that failed.
    pub const BEATS_FAILED: &str = "sluice.beats.failed";
    /// Beats that were acknowledged more than two intervals after the one before.
    pub const BEATS_LATE: &str = "sluice.beats.late";
    /// What calls cost, in USD.
    pub const COST: &str = "sluice.cost.usd";
    /// Log lines dropped because their sink was slow.
    pub const LOG_LINES_DROPPED: &str = "sluice.telemetry.log_lines_dropped";
    /// Spans dropped because the collector was slow or away.
    pub const SPANS_DROPPED: &str = "sluice.telemetry.spans_dropped";
}
