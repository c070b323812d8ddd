//! The way of a task back to the loop: its announcement, and the time until the loop must look.

use super::Service;
use super::ready::{ReadyTasks, Unseen};
use crate::scheduler::search::{LOOP_LOOKS, pause};
use crate::sync::{may_search, thread};
use crate::task::Task;
use std::sync::Arc;
use std::time::Duration;

impl<T: Task> Service<T> {
    /// Takes the tasks that have parked or ended since the last call. Each is announced once. The
    /// call also acts on timeouts that have run out, and allows the next notification.
    ///
    /// Call it when the loop is notified, and when the time of [`poll_timeout`](Self::poll_timeout)
    /// is over. The simplest way is to call it in every iteration of the loop. Tasks that the loop
    /// does not take out of the iterator are announced again, so a loop that only needs the effect
    /// on timeouts can drop the iterator: `drop(service.take_ready())`.
    ///
    /// ```
    /// use moored::{BoxTask, TaskReturn, TaskStatus, ThreadPool, task_fn};
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let this = std::thread::current();
    /// let mut service = pool.service::<BoxTask>(move || this.unpark());
    /// service.enqueue(7, task_fn(|_| TaskReturn::TaskDone))?;
    /// while !service.is_empty() {
    ///     match service.poll_timeout() {
    ///         Some(timeout) => std::thread::park_timeout(timeout),
    ///         None => std::thread::park(),
    ///     }
    ///     for ready in service.take_ready() {
    ///         if let Some(TaskStatus::Finished(_)) = service.task_status(ready.id) {
    ///             println!("a task of connection {:?} has finished", ready.connection);
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The call may spin for up to two microseconds before it returns nothing, if tasks of this
    /// service are queued or running and steps are very short. That costs less than to block and be
    /// woken. It never spins on a single core. O(number of tasks announced + number of workers).
    #[doc(alias = "LWS_CALLBACK_SERVER_WRITEABLE")]
    #[doc(alias = "wait")]
    #[doc(alias = "poll")]
    pub fn take_ready(&mut self) -> ReadyTasks {
        self.check_shutdown();
        self.polling.end();
        self.tell_reaped();
        self.publish();
        self.inner.scheduler.report_slow_steps(|| ());
        self.stop_late();
        self.receive();
        if !self.table.has_unannounced() {
            self.spin();
        }
        self.rearm();
        self.room = self
            .room
            .filter(|&place| !self.inner.scheduler.room.has_come(place));
        self.receive();
        self.resume_all();
        self.take_back_unseen();
        let ready = self.announce();
        let has_polled = std::mem::take(&mut self.has_polled);
        if !has_polled && self.table.timers.next().is_some() {
            self.set_alarm();
        }
        ready
    }

    /// For a loop that does not call `poll_timeout`: an idle worker notifies it when the next
    /// timeout runs out, or earlier.
    #[cold]
    fn set_alarm(&mut self) {
        let scheduler = &self.inner.scheduler;
        let now = scheduler.clock.now();
        let next = self.table.timers.next();
        let is_early = self.alarm.is_some_and(|at| at > now && Some(at) <= next);
        if scheduler.has_workers() && !is_early {
            scheduler.set_alarm(self.inner.queue_number, self.alarm, next);
            self.alarm = next;
        }
    }

    /// Allows the next notification. The caller must look after this at everything that may have
    /// used the notification before it.
    fn rearm(&mut self) {
        self.inner.notifier.rearm();
        self.check_shutdown();
    }

    /// Looks a few more times, with pauses, if tasks may return during this time.
    fn spin(&mut self) {
        let scheduler = &self.inner.scheduler;
        let pays = self.table.away() > 0 && scheduler.cores > 1 && scheduler.has_very_short_steps();
        if !pays || !may_search() || self.backoff.skips() {
            return;
        }
        for _ in 1..LOOP_LOOKS {
            pause();
            self.receive();
            if self.table.has_unannounced() {
                self.backoff.note_found();
                return;
            }
        }
        self.backoff.note_nothing();
    }

    /// Announces the tasks again that were announced and not taken out of the iterator.
    fn take_back_unseen(&mut self) {
        if let Some((tasks, wakes)) = self.unseen.as_deref().and_then(Unseen::take) {
            self.inner.counters.wakes.add(wakes);
            let tasks: Vec<_> = tasks.into_iter().filter_map(|id| self.find(id)).collect();
            self.table.announce_again(&tasks);
        }
    }

    /// Announces the tasks that have arrived.
    fn announce(&mut self) -> ReadyTasks {
        let inner = &self.inner;
        let tasks = self.table.announce(&inner.scheduler.clock);
        self.polling.note_found(tasks.len());
        self.unread = tasks.len();
        let unseen = || Unseen::new(Arc::clone(&inner.notifier));
        let unseen = (!tasks.is_empty()).then(|| self.unseen.get_or_insert_with(unseen));
        ReadyTasks::new(tasks, unseen.cloned())
    }

    /// Receives the tasks that workers have returned. A task that has parked and must not is
    /// resumed at the end of this call.
    pub(super) fn receive(&mut self) {
        let Self {
            inner,
            ends,
            table,
            resumed,
            has_seen_shutdown,
            ..
        } = self;
        for ring in ends.iter_mut().flat_map(|ends| &mut ends.completions) {
            ring.pop_each(usize::MAX, |completion| {
                let (slot, is_parked) = (completion.slot, completion.outcome.is_parked());
                let received = table.receive(completion);
                if received.was_moved {
                    inner.forget_move(slot);
                }
                if received.must_continue || *has_seen_shutdown && is_parked {
                    resumed.push(slot);
                }
            });
        }
    }

    /// Receives a task that a worker has returned, or is returning at this moment.
    #[inline]
    pub(super) fn fetch(&mut self, slot: u32) {
        while self.table.outcome(slot).is_none() && self.table.phase(slot).is_returned() {
            self.receive();
            if self.table.outcome(slot).is_none() {
                // The worker has written the phase, and is about to add the task to the completion
                // ring.
                thread::yield_now();
            }
        }
    }

    /// Returns how long the loop may block before it must call [`take_ready`](Self::take_ready).
    /// `None` means: until the loop is notified. Call it right before the loop blocks, in every
    /// iteration.
    ///
    /// ```
    /// use moored::{BoxTask, TaskOptions, TaskReturn, ThreadPool, task_fn};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPool::builder().threads(1).build()?;
    /// let mut service = pool.service::<BoxTask>(|| {});
    /// assert_eq!(service.poll_timeout(), None);
    /// let parks = task_fn(|cx| match cx.is_stopping() {
    ///     true => TaskReturn::Stopped,
    ///     false => TaskReturn::Sync,
    /// });
    /// let options = TaskOptions::new().deadline(Duration::from_secs(2));
    /// service.enqueue_with(7, parks, options)?;
    /// assert!(service.poll_timeout().is_some_and(|timeout| timeout <= Duration::from_secs(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The result is the time until the next timeout of a task. It is zero while
    ///
    /// - a task has parked or ended, was not announced, and no notification of it is outstanding;
    /// - a [`Mailbox`](crate::Mailbox) holds messages;
    /// - steps are pending and the pool has no threads (`threads(0)`).
    ///
    /// It is at most 5 ms while workers may defer notifications. They may do so while the loop has
    /// found something in each iteration, steps are short, and tasks of this service are queued or
    /// running. A worker that has more tasks to run then notifies the loop at most every 20 us,
    /// and later than that if its next step is long. The loop looks again without a notification,
    /// after the time that `poll_timeout` returned. So if a loop blocks for longer than that, or
    /// blocks again without another call, its notification may be late by the length of a step. A
    /// loop that never calls `poll_timeout` is always notified at once.
    ///
    /// O(number of workers + number of tasks returned since the last call).
    #[doc(alias = "timeout")]
    #[doc(alias = "wait")]
    #[must_use = "the loop must not block for longer"]
    pub fn poll_timeout(&mut self) -> Option<Duration> {
        self.check_shutdown();
        self.has_polled = true;
        self.calls_poll_timeout = true;
        self.tell_reaped();
        self.publish();
        self.inner.scheduler.report_slow_steps(|| ());
        let scheduler = &self.inner.scheduler;
        if self.polling.has_found() && self.table.away() > 0 && scheduler.has_short_steps() {
            self.inner.notifier.start_polling();
        } else {
            self.inner.notifier.stop_polling();
        }
        if self.room.is_some() {
            scheduler.note_room(&self.inner.counters);
        }
        if self.has_unseen() {
            return Some(Duration::ZERO);
        }
        if self.inner.notifier.is_notified() {
            // The wake may be over already, and the loop may have found its cause without
            // `take_ready`.
            self.rearm();
            if self.has_unseen() {
                return Some(Duration::ZERO);
            }
        }
        let scheduler = &self.inner.scheduler;
        let now = scheduler.clock.now();
        let poll = self.inner.notifier.is_polling().then(|| self.polling.left(now));
        let due = self.table.timers.next();
        // With threads, an idle worker has its own timer.
        let moment = if scheduler.has_workers() {
            None
        } else {
            scheduler.time_to_next_moment()
        };
        let left = [due.map(|due| due.saturating_sub(now)), poll, moment];
        left.into_iter().flatten().min().map(Duration::from_nanos)
    }

    /// Whether there is something for the loop of which it may not be notified again.
    fn has_unseen(&mut self) -> bool {
        self.take_back_unseen();
        if !self.inner.notifier.is_polling() {
            // Otherwise the worker will notify the loop of the task that it has returned.
            self.receive();
            self.resume_all();
        }
        let scheduler = &self.inner.scheduler;
        let has_messages = self
            .inner
            .mailboxes()
            .is_some_and(|mailboxes| mailboxes.are_undrained());
        let has_room = self.room.is_some_and(|place| scheduler.room.has_come(place));
        let has_pending = || !scheduler.has_workers() && scheduler.has_runnable();
        has_room || self.table.has_unannounced() || has_messages || has_pending()
    }
}
