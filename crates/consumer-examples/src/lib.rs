//! Nothing but examples and benchmarks: `examples/bench_worker.rs`, `benches/peers`.
