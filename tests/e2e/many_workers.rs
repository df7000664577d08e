//! One scheduler, four workers and the simulator as separate processes; 10,000 jobs of mixed priorities with 5 %
//! transient errors; two workers are killed on the way. All jobs end, the joined ledgers hold I1 to I6, and higher
//! priorities start first.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use sluice_domain::{JobId, JobState};
use sluice_testkit::wait_until;
use sluice_tests::{
    facts,
    history::{Acknowledged, History, WhenUnknown, check, figures},
};

use crate::site::Site;

const JOBS: usize = 10_000;
const WORKERS: usize = 4;

fn line(number: usize) -> Value {
    json!({
        "body": {"model": "deepseek-flash", "user": format!("job-{number}"), "max_tokens": 16,
                 "messages": [{"role": "user", "content": format!("What is {number} times two?")}]},
        "priority": 1 + number % 5,
        "idempotency_key": format!("key-{number}"),
    })
}

fn acknowledged(number: usize, answer: &Value) -> Acknowledged {
    let id = answer["id"].as_str().unwrap_or_else(|| panic!("line {number} was refused: {answer}"));
    Acknowledged {
        key: format!("job-{number}"),
        job_id: id.parse::<JobId>().unwrap(),
        when_unknown: WhenUnknown::Repeat,
    }
}

/// When the jobs of each priority were first leased, as their mean place in the order of all.
async fn mean_places(site: &Site) -> Vec<f64> {
    sqlx::query_scalar(
        "SELECT avg(place)::float8 FROM (
             SELECT j.priority, row_number() OVER (ORDER BY b.begun_at) AS place
             FROM sluice.attempts_begun b JOIN sluice.jobs j ON j.id = b.job_id WHERE b.lease_no = 1) p
         GROUP BY priority ORDER BY priority",
    )
    .fetch_all(site.database.pool())
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_jobs_survive_the_death_of_two_of_four_workers() {
    let mut site = Site::start(&["--fault", "http_500=0.05", "--latency", "20ms"]).await;
    let lines: Vec<Value> = (0..JOBS).map(line).collect();
    let answers = site.submit_bulk(&lines).await;
    let mut told: Vec<_> =
        answers.iter().enumerate().map(|(number, answer)| acknowledged(number, answer)).collect();
    assert_eq!(told.len(), JOBS);

    for _ in 0..WORKERS {
        site.start_worker("40");
    }
    for (worker, at) in [(0, JOBS / 5), (1, JOBS / 2)] {
        wait_until(&format!("{at} jobs to end"), Duration::from_mins(2), async || {
            site.ended().await >= at as i64
        })
        .await;
        site.workers[worker].kill().await.unwrap();
    }
    // The same keys again, while the work goes on: the same jobs.
    let again = site.submit_bulk(&lines[..1_000]).await;
    told.extend(again.iter().enumerate().map(|(number, answer)| acknowledged(number, answer)));
    wait_until("all jobs to end", Duration::from_mins(3), async || site.ended().await >= JOBS as i64).await;

    let mut killed = BTreeSet::new();
    for name in ["worker-0", "worker-1"] {
        killed.extend(facts::incarnations(site.database.pool(), name).await.unwrap());
    }
    let history = History {
        acknowledged: told,
        places: facts::places(site.database.pool()).await.unwrap(),
        attempts: facts::attempts(site.database.pool()).await.unwrap(),
        late: facts::late_answers(site.database.pool()).await.unwrap(),
        killed,
        calls: facts::calls(&site.ledger()).unwrap(),
        ..History::default()
    };
    let figures = figures(&history);
    assert_eq!(check(&history), [], "{figures:?}");
    let succeeded = history.places.iter().filter(|place| place.state == JobState::Succeeded).count();
    assert_eq!(succeeded, JOBS, "{figures:?}");
    assert!(figures.calls > JOBS, "5 % of the calls met an error: {figures:?}");
    let places = mean_places(&site).await;
    assert!(places.is_sorted_by(|low, high| low > high), "higher priorities start first: {places:?}");
}
