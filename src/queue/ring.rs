//! A lock-free and unbounded queue for one producer and one consumer.
//!
//! It is a list of rings of fixed sizes. When the newest ring is full, the producer adds a ring.
//! When the oldest ring is empty and the producer has left it, the consumer goes to the next ring.
//! An unused queue has no memory.

use crate::sync::{self, Mutex, Ordering, RingConsumer, RingProducer, fence};
use std::collections::VecDeque;
use std::sync::Arc;

/// The number of entries of the first ring. Each later ring is twice as large as the one before.
const CAPACITY_MIN: usize = if cfg!(loom) { 2 } else { 32 };
/// The largest size of a ring in bytes, unless `CAPACITY_MIN` entries need more. (Rows:
/// `stream-65536`, `memory-65536`.)
const BYTES_MAX: usize = 1024 * 1024;

/// The rings that the producer has made and that the consumer has not reached.
type Next<T> = Arc<Mutex<VecDeque<RingConsumer<T>>>>;

pub(crate) struct Producer<T> {
    ring: RingProducer<T>,
    capacity: usize,
    next: Next<T>,
}

pub(crate) struct Consumer<T> {
    ring: RingConsumer<T>,
    next: Next<T>,
}

pub(crate) fn new<T>() -> (Producer<T>, Consumer<T>) {
    let (producer, consumer) = sync::ring(0);
    let next: Next<T> = Arc::new(Mutex::new(VecDeque::new()));
    let producer = Producer {
        ring: producer,
        capacity: 0,
        next: Arc::clone(&next),
    };
    (producer, Consumer { ring: consumer, next })
}

impl<T> Producer<T> {
    const CAPACITY_MAX: usize = {
        let fit = BYTES_MAX / (size_of::<T>() + 1);
        if fit > CAPACITY_MIN { fit } else { CAPACITY_MIN }
    };

    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        if let Err(value) = sync::push(&mut self.ring, value) {
            self.push_to_next_ring(value);
        }
    }

    #[cold]
    #[inline(never)]
    fn push_to_next_ring(&mut self, value: T) {
        self.capacity = (2 * self.capacity).clamp(CAPACITY_MIN, Self::CAPACITY_MAX);
        let (mut producer, consumer) = sync::ring(self.capacity);
        let is_pushed = sync::push(&mut producer, value).is_ok();
        debug_assert!(is_pushed, "a new ring has room");
        self.next.lock().push_back(consumer);
        // The drop comes after the next ring was added, because the consumer looks for the next
        // ring after this drop.
        self.ring = producer;
    }
}

impl<T> Consumer<T> {
    /// Takes up to `max` values. Returns how many it took.
    #[inline]
    pub(crate) fn pop_each(&mut self, max: usize, mut sink: impl FnMut(T)) -> usize {
        let mut taken = sync::pop_each(&mut self.ring, max, &mut sink);
        while taken < max && self.go_on() {
            taken += sync::pop_each(&mut self.ring, max - taken, &mut sink);
        }
        taken
    }

    /// Goes to the next ring, or stays if the producer has added a value to this ring before it
    /// left it. Returns false if the queue is empty.
    fn go_on(&mut self) -> bool {
        if !self.ring.is_abandoned() {
            return false;
        }
        // All values that the producer added before it left this ring are visible now.
        fence(Ordering::Acquire);
        if self.ring.slots() > 0 {
            return true;
        }
        let Some(next) = self.next.lock().pop_front() else {
            return false;
        };
        self.ring = next;
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pop<T>(consumer: &mut Consumer<T>, max: usize) -> Vec<T> {
        let mut values = Vec::new();
        assert_eq!(consumer.pop_each(max, |value| values.push(value)), values.len());
        values
    }

    #[test]
    fn values_arrive_in_order_across_rings() {
        let (mut producer, mut consumer) = new();
        let count = 4 * Producer::<usize>::CAPACITY_MAX;
        let mut expected = 0;
        for value in 0..count {
            producer.push(value);
            if value % 3 == 0 {
                for taken in pop(&mut consumer, 2) {
                    assert_eq!(taken, expected);
                    expected += 1;
                }
            }
        }
        assert_eq!(
            pop(&mut consumer, usize::MAX),
            (expected..count).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_a_producer_leaves_can_be_taken() {
        let (mut producer, mut consumer) = new();
        (0..=CAPACITY_MIN).for_each(|value| producer.push(value));
        drop(producer);
        assert_eq!(pop(&mut consumer, usize::MAX).len(), CAPACITY_MIN + 1);
        assert!(pop(&mut consumer, 1).is_empty());
    }

    #[test]
    fn a_queue_that_was_never_used_has_no_memory() {
        let (producer, mut consumer) = new::<[u8; 4096]>();
        assert_eq!(producer.ring.buffer().capacity(), 0);
        assert!(pop(&mut consumer, 1).is_empty());
    }

    #[test]
    fn two_threads_lose_nothing() {
        let (mut producer, mut consumer) = new();
        std::thread::scope(|scope| {
            scope.spawn(move || (0..100_000).for_each(|value| producer.push(value)));
            let mut expected = 0;
            while expected < 100_000 {
                for value in pop(&mut consumer, 100) {
                    assert_eq!(value, expected);
                    expected += 1;
                }
            }
        });
    }
}
