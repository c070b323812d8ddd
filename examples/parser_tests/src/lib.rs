//! Property tests of the parsers in `examples/src`: see `tests/parsers.rs`.
