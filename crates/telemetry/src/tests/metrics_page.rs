//! The page of metrics, and their export.

use std::time::Duration;

use sluice_testkit::Collector;

use super::{Kept, process};
use crate::{
    AttemptEnd, CallMeasure, ClosedGate, Death, GateStanding, HttpMeasure, LeaseStanding, LimitStanding,
    MetricsRegistry, QueueDepth, TokenUse, names::metric,
};

fn depth(queue: &str, state: &'static str, jobs: u64, oldest_s: Option<u64>) -> QueueDepth {
    QueueDepth { queue: queue.to_owned(), state, jobs, oldest_age: oldest_s.map(Duration::from_secs) }
}

/// Every measure is taken once at least.
pub(super) fn measured(registry: &MetricsRegistry) {
    let worker = registry.worker();
    worker.leased(3, Duration::from_millis(4));
    worker.job_waited("q", Duration::from_secs(2));
    worker.call_began("deepseek");
    worker.call_began("deepseek");
    worker.call_ended("deepseek");
    worker.call_measured(&CallMeasure {
        operation: "chat",
        provider: "deepseek",
        upstream: "deepseek",
        model: "deepseek-flash",
        duration: Duration::from_millis(700),
        time_to_first_chunk: Some(Duration::from_millis(80)),
        error_class: None,
        tokens: Some(TokenUse { input: 10, output: 20 }),
        cost_usd: 0.25,
    });
    worker.attempt_ended(&AttemptEnd {
        queue: "q",
        outcome: "unknown",
        error_class: Some("connection_lost"),
    });
    worker.settled(5, Duration::from_millis(3));
    worker.stale_write_refused();
    worker.late_result_kept();
    worker.attempt_unknown();
    worker.suspect_called();
    worker.suspect_crashed();
    worker.suspect_put_off();
    worker.breaker_is_open("deepseek", true);
    worker.spool_holds(4096, 2);
    worker.spool_adopted(3, 1);
    worker.spool_failed();
    worker.beat_failed();
    worker.beat_late();
    worker.incarnation_renewed();
    let scheduler = registry.scheduler();
    scheduler.set_depths(&[depth("q", "queued", 7, Some(30)), depth("old", "queued", 9, Some(5))]);
    scheduler.set_depths(&[depth("q", "queued", 8, Some(31))]);
    scheduler.submitted("rest", 2);
    let expiry = scheduler.expiry();
    expiry.leases_expired(Death::Silent, 4);
    expiry.incarnations_died(Death::Known, 1);
    expiry.brake_engaged();
    expiry.brake_was_engaged("clock", 1);
    let standing = LeaseStanding {
        overdue: 3,
        overdue_age: Duration::from_secs(9),
        fresh: 5,
        late: 1,
        silent: 2,
        held: vec![("poison", 6)],
    };
    expiry.set_standing(&standing);
    expiry.set_standing(&LeaseStanding { held: vec![("unknown_outcome", 7)], ..standing });
    let limit = |model: &str, cap| LimitStanding {
        account: "main".to_owned(),
        model: model.to_owned(),
        tenant: String::new(),
        queue: String::new(),
        kind: "tokens",
        window_s: 60,
        cap,
        used: 7,
    };
    let gates = GateStanding {
        limits: vec![limit("m", 100), limit("gone", 100)],
        closed: vec![ClosedGate {
            kind: "account",
            name: "main".to_owned(),
            model: "m".to_owned(),
            left: Duration::from_secs(4),
        }],
        paused: vec![("account", "main".to_owned()), ("upstream", "up".to_owned())],
        failing: vec!["down".to_owned(), "healed".to_owned()],
    };
    scheduler.gates().set(&gates);
    scheduler.gates().set(&GateStanding {
        limits: vec![limit("m", 90)],
        paused: gates.paused[..1].to_vec(),
        failing: gates.failing[..1].to_vec(),
        ..gates
    });
    scheduler.http_answered(&HttpMeasure {
        method: "POST",
        route: Some("/v1/jobs"),
        status_code: 201,
        duration: Duration::from_millis(3),
    });
}

#[test]
fn the_page_shows_every_measure_in_prometheus_text() {
    let registry = MetricsRegistry::new().unwrap();
    measured(&registry);
    let page = registry.render_prometheus();
    for line in [
        "sluice_leases_total 3",
        "sluice_lease_duration_seconds_count 1",
        "sluice_queue_wait_seconds_sum{sluice_queue=\"q\"} 2",
        "sluice_calls_in_flight{sluice_upstream=\"deepseek\"} 1",
        "sluice_attempts_total{error_type=\"connection_lost\",sluice_attempt_outcome=\"unknown\",sluice_queue=\"q\"} 1",
        "sluice_settle_group_size_sum 5",
        "sluice_settle_stale_writes_total 1",
        "sluice_settle_late_results_total 1",
        "sluice_spool_size_bytes 4096",
        "sluice_spool_outcomes 2",
        "sluice_spool_adopted_total 3",
        "sluice_spool_corrupt_total 1",
        "sluice_spool_failed_total 1",
        "sluice_suspects_called_total 1",
        "sluice_suspects_crashed_total 1",
        "sluice_suspects_put_off_total 1",
        "sluice_breaker_open{sluice_upstream=\"deepseek\"} 1",
        "sluice_limit_cap{gen_ai_request_model=\"m\",sluice_account=\"main\",sluice_limit_kind=\"tokens\",sluice_limit_window=\"60\"} 90",
        "sluice_limit_used{gen_ai_request_model=\"gone\",sluice_account=\"main\",sluice_limit_kind=\"tokens\",sluice_limit_window=\"60\"} 0",
        "sluice_gate_closed_seconds{gen_ai_request_model=\"m\",sluice_gate_kind=\"account\",sluice_gate_name=\"main\"} 4",
        "sluice_paused{sluice_gate_kind=\"account\",sluice_gate_name=\"main\"} 1",
        "sluice_paused{sluice_gate_kind=\"upstream\",sluice_gate_name=\"up\"} 0",
        "sluice_breaker_open{sluice_upstream=\"down\"} 1",
        "sluice_breaker_open{sluice_upstream=\"healed\"} 0",
        "sluice_beats_failed_total 1",
        "sluice_jobs{sluice_job_state=\"queued\",sluice_queue=\"q\"} 8",
        "sluice_jobs{sluice_job_state=\"queued\",sluice_queue=\"old\"} 0",
        "sluice_queue_oldest_age_seconds{sluice_queue=\"q\"} 31",
        "sluice_jobs_submitted_total{sluice_protocol=\"rest\"} 2",
        "sluice_leases_expired_total{sluice_death=\"silent\"} 4",
        "sluice_leases_expired_total{sluice_death=\"known\"} 0",
        "sluice_incarnations_died_total{sluice_death=\"known\"} 1",
        "sluice_brake_engagements_total{sluice_brake_cause=\"clock\"} 1",
        "sluice_leases_overdue 3",
        "sluice_leases_overdue_age_seconds 9",
        "sluice_incarnations{sluice_beat=\"late\"} 1",
        "sluice_incarnations{sluice_beat=\"silent\"} 2",
        "sluice_jobs_held{sluice_hold_reason=\"poison\"} 0",
        "sluice_jobs_held{sluice_hold_reason=\"unknown_outcome\"} 7",
        "sluice_attempts_unknown_total 1",
        "sluice_beats_late_total 1",
        "sluice_incarnations_renewed_total 1",
        "sluice_brake_engaged 1",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
    }
    for part in [
        "# TYPE sluice_leases_total counter",
        "# TYPE gen_ai_client_operation_duration_seconds histogram",
        "gen_ai_client_token_usage_sum{gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"deepseek\",\
         gen_ai_request_model=\"deepseek-flash\",gen_ai_token_type=\"output\",sluice_upstream=\"deepseek\"} 20",
        "gen_ai_client_operation_time_to_first_chunk_seconds_bucket{",
        "http_server_request_duration_seconds_count{http_request_method=\"POST\",\
         http_response_status_code=\"201\",http_route=\"/v1/jobs\"} 1",
        "sluice_cost_usd_total{",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

#[test]
fn metrics_are_exported_where_a_collector_is_named() {
    let collector = Collector::default();
    let endpoint = collector.start();
    let (_, guard) = process(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)], &Kept::default());
    measured(guard.metrics());
    guard.shutdown(Duration::from_secs(10));
    let names = collector.metric_names.lock().unwrap();
    for name in [metric::OPERATION_DURATION, metric::TOKEN_USAGE, metric::JOBS, metric::SPANS_DROPPED] {
        assert!(names.iter().any(|exported| exported == name), "{name} in {names:?}");
    }
}

#[test]
fn recording_is_cheap() {
    let registry = MetricsRegistry::new().unwrap();
    let worker = registry.worker();
    let began = std::time::Instant::now();
    for _ in 0..20_000 {
        worker.attempt_ended(&AttemptEnd { queue: "q", outcome: "succeeded", error_class: None });
    }
    // Unoptimized, on a busy machine: 50 µs each would still be ten times what is seen.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
