//! What thread-locals of one's own cost: a yield, and a coroutine's life.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crore_benches::kinds::Kind;

fn yields(c: &mut Criterion) {
    for tasks in [2, 1_000] {
        let mut group = c.benchmark_group(format!("yield of a kind/{tasks} runnable"));
        group
            .throughput(Throughput::Elements(tasks))
            .sample_size(10);
        for kind in Kind::all() {
            group.bench_function(BenchmarkId::from_parameter(format!("{kind:?}")), |b| {
                b.iter_custom(|rounds| kind.yields(tasks, rounds));
            });
        }
        group.finish();
    }
}

fn spawns(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn + join of a kind");
    group.throughput(Throughput::Elements(1));
    for kind in Kind::all() {
        group.bench_function(BenchmarkId::from_parameter(format!("{kind:?}")), |b| {
            b.iter_custom(|n| kind.spawns(n));
        });
    }
    group.finish();
}

criterion_group!(benches, yields, spawns);
criterion_main!(benches);
