//! Empty: the example is `main.rs`, and the tests are in `tests`.
