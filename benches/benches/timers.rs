//! Timers that are taken back, and timers that fire.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crore_benches::on_crore::{self, Own};
use crore_peers::on_tokio;

/// One iteration: two timers set and taken back, two wake-ups.
fn set_and_take_back(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers/set and take back, there and back");
    group.bench_function("crore", |b| b.iter_custom(on_crore::timer_cancel::<Own>));
    group.bench_function("tokio current_thread", |b| {
        b.iter_custom(|n| on_tokio::timer_cancel(1, n))
    });
}

/// One iteration: processor time of four thousand that are spawned, sleep to
/// deadlines within 20 ms, wake and are joined.
fn sleepers(c: &mut Criterion) {
    const SLEEPERS: u64 = 4_000;
    let mut group = c.benchmark_group("timers/4000 sleepers");
    group
        .throughput(Throughput::Elements(SLEEPERS))
        .sample_size(10);
    group.bench_function("crore", |b| {
        b.iter_custom(|n| (0..n).map(|_| on_crore::sleepers::<Own>(SLEEPERS)).sum());
    });
    group.bench_function("tokio current_thread", |b| {
        b.iter_custom(|n| (0..n).map(|_| on_tokio::sleepers(1, SLEEPERS)).sum());
    });
}

criterion_group!(benches, set_and_take_back, sleepers);
criterion_main!(benches);
