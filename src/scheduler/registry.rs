//! The services of a pool, and their counters.

use super::any_service::{AnyService, ServiceRef};
use super::counters::{Sums, ThreadCounters};
use crate::sync::Mutex;
use slab::Slab;
use std::sync::{Arc, Weak};

struct Registered {
    service: Weak<dyn AnyService>,
    counters: Arc<ThreadCounters>,
}

/// Lock order: `services`, then `retired`.
pub(crate) struct Registry {
    services: Mutex<Slab<Registered>>,
    /// The sums of the services that were dropped.
    retired: Mutex<Sums>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            services: Mutex::new(Slab::new()),
            retired: Mutex::new(Sums::default()),
        }
    }

    pub(crate) fn add(&self, service: Weak<dyn AnyService>, counters: Arc<ThreadCounters>) -> usize {
        self.services.lock().insert(Registered { service, counters })
    }

    pub(crate) fn remove(&self, slot: usize) {
        // Both under one lock, so that each sum contains the counters of a service exactly once.
        let mut services = self.services.lock();
        let registered = services.remove(slot);
        self.retire(&registered.counters);
    }

    /// Adds the counters of a dropped service to the sums.
    pub(crate) fn retire(&self, counters: &ThreadCounters) {
        self.retired.lock().add(counters);
    }

    pub(crate) fn services(&self) -> Vec<ServiceRef> {
        // Upgraded after the lock is released, since the last reference must not be dropped under
        // it.
        let services: Vec<_> = self
            .services
            .lock()
            .iter()
            .map(|(_, registered)| registered.service.clone())
            .collect();
        services
            .iter()
            .filter_map(Weak::upgrade)
            .map(ServiceRef::new)
            .collect()
    }

    pub(crate) fn sums(&self) -> Sums {
        let services = self.services.lock();
        let mut sums = *self.retired.lock();
        for (_, registered) in &*services {
            sums.add(&registered.counters);
        }
        sums
    }
}
