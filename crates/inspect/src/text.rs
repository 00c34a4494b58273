//! Metrics in words.

use std::fmt::Write;

use crore::Metrics;

/// What each worker counts, in the text format that Prometheus reads: a line for each
/// number and worker, `crore_resumed{worker="0"} 17`.
///
/// ```
/// let runtime = crore::Runtime::builder().workers(2).build()?;
/// let text = crore_inspect::prometheus(&runtime.handle().worker_metrics());
/// assert!(text.contains("crore_spawned{worker=\"1\"} 0\n"), "{text}");
/// # std::io::Result::Ok(())
/// ```
pub fn prometheus(workers: &[Metrics]) -> String {
    let mut text = String::new();
    let numbers: Vec<Vec<_>> = workers.iter().map(|one| one.named().collect()).collect();
    let count = numbers.first().map_or(0, Vec::len);
    for i in 0..count {
        for (worker, numbers) in numbers.iter().enumerate() {
            let (name, number) = numbers[i];
            // A string takes all.
            let _ = writeln!(text, "crore_{name}{{worker=\"{worker}\"}} {number}");
        }
    }
    text
}
