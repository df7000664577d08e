//! What happens to each job that comes in: its JSON is taken apart and checked.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_domain::TenantName;
use sluice_scheduler::{parse_submission, wall_clock};

fn submission(content_bytes: usize, more: &str) -> Vec<u8> {
    let content = "word ".repeat(content_bytes / 5);
    format!(
        "{{\"body\":{{\"model\":\"deepseek-flash\",\"messages\":[{{\"role\":\"user\",\"content\":\"{content}\"}}]}}\
         {more}}}"
    )
    .into_bytes()
}

fn submissions(criterion: &mut Criterion) {
    let (tenant, now) = (TenantName::default_tenant(), wall_clock());
    let all_fields = ",\"priority\":4,\"queue\":\"nightly\",\"idempotency_key\":\"order-17\",\"max_attempts\":5,\
                      \"tags\":{\"team\":\"search\",\"run\":\"7\"}";
    let inputs = [
        ("300 B", submission(230, "")),
        ("300 B with all fields", submission(230, all_fields)),
        ("32 KB", submission(32_000, "")),
    ];
    let mut group = criterion.benchmark_group("a submission");
    for (name, input) in inputs {
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |b| b.iter(|| parse_submission(black_box(&input), &tenant, now)));
    }
    group.finish();
}

criterion_group!(benches, submissions);
criterion_main!(benches);
