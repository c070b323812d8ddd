//! The work of `/work`: it counts primes, so that the answer can be checked.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::job::Next;
use crate::lines;

/// A step is short, since without workers the loop runs it, and serves nobody meanwhile.
const STEP: Duration = Duration::from_millis(1);
/// Numbers that are tested between two looks at the clock.
const BATCH: u64 = 64;

#[derive(Debug)]
pub struct Work {
    /// Time that is left.
    left: Duration,
    size: usize,
    /// All numbers below it were tested.
    below: u64,
    primes: u64,
    is_answered: bool,
}

impl Work {
    /// Computes for `time`, then answers with `size` bytes, or more if the result is longer.
    pub fn new(time: Duration, size: usize) -> Self {
        Self {
            left: time,
            size,
            below: 0,
            primes: 0,
            is_answered: false,
        }
    }

    pub fn next(&mut self) -> Next {
        if self.is_answered {
            return Next::Done;
        }
        let step = STEP.min(self.left);
        self.count_primes(step);
        self.left -= step;
        if !self.left.is_zero() {
            return Next::Compute;
        }
        self.is_answered = true;
        Next::Write {
            output: self.answer(),
            pause: Duration::ZERO,
        }
    }

    /// Tests numbers for `time`, at least one batch of them.
    fn count_primes(&mut self, time: Duration) {
        let begun = Instant::now();
        loop {
            let end = self.below + BATCH;
            self.primes += (self.below..end).filter(|number| is_prime(*number)).count() as u64;
            self.below = end;
            if begun.elapsed() >= time {
                return;
            }
        }
    }

    /// The result, and numbered lines behind it.
    fn answer(&self) -> Bytes {
        let mut text = format!("primes below {}: {}\n", self.below, self.primes).into_bytes();
        let missing = self.size.saturating_sub(text.len());
        text.extend_from_slice(&lines::part(0, missing));
        text.into()
    }
}

fn is_prime(number: u64) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number >= 2 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}
