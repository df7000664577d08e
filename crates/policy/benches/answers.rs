//! What happens to each answer: its JSON is read, its tokens are counted and priced.

use std::hint::black_box;

use chrono::{DateTime, Utc};
use criterion::{Criterion, criterion_group, criterion_main};
use sluice_policy::{answer_json::json_digest, price::cost, usage::usage};

fn answer(content_bytes: usize) -> Vec<u8> {
    let content = "word ".repeat(content_bytes / 5);
    format!(
        "{{\"id\":\"a\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"deepseek-flash\",\"choices\":[{{\
         \"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\"}},\"finish_reason\":\"stop\"}}],\
         \"usage\":{{\"prompt_tokens\":100,\"prompt_cache_hit_tokens\":64,\"prompt_cache_miss_tokens\":36,\
         \"completion_tokens\":20,\"total_tokens\":120}}}}"
    )
    .into_bytes()
}

fn answers(criterion: &mut Criterion) {
    for (name, bytes) in [("600 B", 300), ("20 KB", 20_000)] {
        let answer = answer(bytes);
        criterion.bench_function(&format!("digest of an answer of {name}"), |b| {
            b.iter(|| json_digest(black_box(&answer)));
        });
    }
    let digest = json_digest(&answer(300)).expect("the answer is JSON");
    criterion.bench_function("usage", |b| b.iter(|| usage(black_box(&digest["usage"]))));
    let used = usage(&digest["usage"]).expect("the answer says what it used");
    let sent_at: DateTime<Utc> = DateTime::from_timestamp(1_790_000_000, 0).expect("a time that exists");
    criterion.bench_function("cost", |b| b.iter(|| cost(black_box("deepseek-flash"), &used, sent_at)));
}

criterion_group!(benches, answers);
criterion_main!(benches);
