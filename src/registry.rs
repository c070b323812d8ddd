//! The services of a pool, and what they have counted.

use crate::job::AnyPort;
use crate::primitive::Mutex;
use crate::stats::{Stats, Sums};
use slab::Slab;
use std::sync::{Arc, Weak};

struct Registered {
    port: Weak<dyn AnyPort>,
    stats: Arc<Stats>,
}

/// Lock order: services, then retired.
pub(crate) struct Registry {
    services: Mutex<Slab<Registered>>,
    /// What those had counted that are gone.
    retired: Mutex<Sums>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            services: Mutex::new(Slab::new()),
            retired: Mutex::new(Sums::default()),
        }
    }

    pub(crate) fn add(&self, port: Weak<dyn AnyPort>, stats: Arc<Stats>) -> usize {
        self.services.lock().insert(Registered { port, stats })
    }

    pub(crate) fn remove(&self, slot: usize) {
        // Under one lock, so that no sum misses what it had counted.
        let mut services = self.services.lock();
        let registered = services.remove(slot);
        self.retire(&registered.stats);
    }

    /// Keeps what somebody had counted who goes.
    pub(crate) fn retire(&self, stats: &Stats) {
        self.retired.lock().add(stats);
    }

    pub(crate) fn ports(&self) -> Vec<Arc<dyn AnyPort>> {
        // Upgraded without the lock: the last reference must not go under it.
        let ports: Vec<_> = self
            .services
            .lock()
            .iter()
            .map(|(_, service)| service.port.clone())
            .collect();
        ports.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn sums(&self) -> Sums {
        let services = self.services.lock();
        let mut sums = *self.retired.lock();
        for (_, service) in &*services {
            sums.add(&service.stats);
        }
        sums
    }
}
