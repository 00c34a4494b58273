//! Spawning and joining.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crore_benches::on_crore::{self, Own};
use crore_peers::on_tokio;

const BATCH: u64 = 1_000;

fn one_by_one(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn + join/one by one");
    group.throughput(Throughput::Elements(1));
    group.bench_function("crore", |b| b.iter_custom(on_crore::spawn_join::<Own>));
    group.bench_function("tokio current_thread", |b| {
        b.iter_custom(|n| on_tokio::spawn_join(1, n))
    });
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn + join/batches of 1000");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("crore", |b| {
        b.iter_custom(|n| on_crore::spawn_join_batch::<Own>(BATCH, n));
    });
    group.bench_function("tokio current_thread", |b| {
        b.iter_custom(|n| on_tokio::spawn_join_batch(1, BATCH, n));
    });
}

/// One iteration: a thousand joins of those that have ended.
fn joins(c: &mut Criterion) {
    let mut group = c.benchmark_group("join/1000 ended");
    group
        .throughput(Throughput::Elements(BATCH))
        .sample_size(10);
    group.bench_function("crore", |b| {
        b.iter_custom(|n| (0..n).map(|_| on_crore::joins::<Own>(BATCH)).sum());
    });
    group.bench_function("tokio current_thread", |b| {
        b.iter_custom(|n| (0..n).map(|_| on_tokio::joins(1, BATCH)).sum());
    });
}

criterion_group!(benches, one_by_one, batches, joins);
criterion_main!(benches);
