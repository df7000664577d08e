//! What happens to each chunk of a stream: events are read out of the bytes, and put together to a completion.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_provider::{Assembly, SseEvent, SseReader};

const CHUNKS: usize = 200;

fn stream() -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..CHUNKS {
        stream.extend_from_slice(
            b"data: {\"id\":\"a\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"deepseek-flash\",\
              \"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n",
        );
    }
    stream.extend_from_slice(b"data: [DONE]\n\n");
    stream
}

fn events(stream: &[u8], piece: usize) -> Vec<SseEvent> {
    let mut reader = SseReader::default();
    stream.chunks(piece).flat_map(|piece| reader.push(piece)).collect()
}

fn streams(criterion: &mut Criterion) {
    let stream = stream();
    let mut group = criterion.benchmark_group("a stream of 200 chunks");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    for piece in [160, 16 * 1024] {
        group.bench_function(format!("read in pieces of {piece} bytes"), |b| {
            b.iter(|| events(black_box(&stream), piece));
        });
    }
    let events = events(&stream, 1024);
    group.bench_function("put together", |b| {
        b.iter(|| {
            let mut assembly = Assembly::default();
            for event in &events {
                if let SseEvent::Data(data) = event {
                    assembly.push(data);
                }
            }
            assembly.into_completion()
        });
    });
    group.finish();
}

criterion_group!(benches, streams);
criterion_main!(benches);
