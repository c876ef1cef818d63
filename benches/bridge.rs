//! Wall time per frame in the bridge. Aim: at most 30 ns for a known 64-byte frame.
#![allow(clippy::unwrap_used, missing_docs)]

mod scenarios;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn bridge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bridge");
    group.throughput(Throughput::Elements(1));
    for mut scenario in scenarios::all() {
        scenario.warm_up();
        group.bench_function(scenario.name.clone(), |bencher| bencher.iter(|| scenario.step()));
        assert!(scenario.sent() > 0, "{}: nothing left the switch", scenario.name);
    }
    group.finish();
}

criterion_group!(benches, bridge);
criterion_main!(benches);
