//! Messages through channels; see `messages.rs` of the library.

use criterion::{Criterion, criterion_group, criterion_main};
use crore_benches::messages as on_crore;
use crore_peers::messages::{on_flume, on_std, on_tokio};

/// Criterion's unit is a round trip: two messages.
fn ping_pong(c: &mut Criterion) {
    for (workers, name) in [(1, "one thread"), (2, "two threads")] {
        let mut group = c.benchmark_group(format!("ping-pong through channels/{name}"));
        group.bench_function("crore", |b| {
            b.iter_custom(|n| on_crore::ping_pong(workers, n))
        });
        group.bench_function("tokio", |b| {
            b.iter_custom(|n| on_tokio::ping_pong(workers, n))
        });
        if workers == 2 {
            group.bench_function("std", |b| b.iter_custom(on_std::ping_pong));
            group.bench_function("flume", |b| b.iter_custom(on_flume::ping_pong));
        }
    }
}

fn stream(c: &mut Criterion) {
    for (workers, name) in [(1, "one thread"), (2, "two threads")] {
        let mut group = c.benchmark_group(format!("stream through a channel/{name}"));
        group.bench_function("crore", |b| b.iter_custom(|n| on_crore::stream(workers, n)));
        group.bench_function("tokio", |b| b.iter_custom(|n| on_tokio::stream(workers, n)));
        if workers == 2 {
            group.bench_function("std", |b| b.iter_custom(on_std::stream));
            group.bench_function("flume", |b| b.iter_custom(on_flume::stream));
        }
    }
}

criterion_group!(benches, ping_pong, stream);
criterion_main!(benches);
