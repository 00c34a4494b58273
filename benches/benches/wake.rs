//! Waking: two that unpark each other in turns.

use criterion::{Criterion, criterion_group, criterion_main};
use crore_benches::on_crore::{self, Own};
use crore_peers::on_tokio;

fn ping_pong(c: &mut Criterion) {
    let mut group = c.benchmark_group("unpark + park/there and back");
    group.bench_function("crore", |b| b.iter_custom(on_crore::ping_pong::<Own>));
    group.bench_function("tokio current_thread", |b| {
        b.iter_custom(|n| on_tokio::ping_pong(1, n))
    });
}

criterion_group!(benches, ping_pong);
criterion_main!(benches);
