//! Benchmarks of moored: see `peers/` and `steps.rs`.
