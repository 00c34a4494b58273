//! Yielding, with few and with many runnable coroutines.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crore_benches::on_crore::{self, Own};
use crore_peers::{on_tokio, raw};

/// One iteration: each of the tasks yields once.
fn yields(c: &mut Criterion) {
    type Workload = fn(u64, u64) -> Duration;
    let workloads: [(&str, Workload); 3] = [
        ("crore", on_crore::yields::<Own>),
        ("tokio current_thread", |tasks, rounds| {
            on_tokio::yields(1, tasks, rounds)
        }),
        ("corosensei raw", raw::switches),
    ];
    for tasks in [2, 1_000, 100_000] {
        let mut group = c.benchmark_group(format!("yield/{tasks} runnable"));
        group
            .throughput(Throughput::Elements(tasks))
            .sample_size(10);
        for (name, workload) in workloads {
            if name == "corosensei raw" && tasks > 1_000 {
                continue; // its own stacks take two mappings each
            }
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter_custom(|rounds| workload(tasks, rounds));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, yields);
criterion_main!(benches);
