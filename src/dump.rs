//! The state of a pool as a value, as text, and as JSON (feature `serde`).

pub(crate) mod end;
pub(crate) mod task;

use crate::mailbox::dump::MailboxDump;
use crate::scheduler::Scheduler;
use crate::scheduler::counters::Sums;
use crate::task::phase::Phase;
use crate::task::status::{Status, StopReason, Timeout};
use end::EndDump;
use std::collections::HashSet;
use std::fmt;
use task::TaskDump;

/// The number of tasks in each state. A task is in exactly one of `queued`, `waiting`, `on_worker`,
/// `parked` and `ended`.
///
/// The numbers of [`ThreadPool::counts`](crate::ThreadPool::counts) come from counters: a task that
/// changes its state at that moment may be missing or counted twice. The numbers of a [`PoolDump`]
/// count its list of tasks.
///
/// ```
/// use moored::{BoxTask, TaskReturn, ThreadPool, task_fn};
/// use std::time::Duration;
///
/// let pool = ThreadPool::builder().threads(0).build()?;
/// let mut service = pool.service::<BoxTask>(|| {});
/// service.enqueue(1, task_fn(|_| TaskReturn::TaskDone))?;
/// assert_eq!((pool.counts().queued, pool.counts().ended), (1, 0));
/// service.run_pending(Duration::MAX);
/// assert_eq!((pool.counts().queued, pool.counts().ended), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counts {
    /// Accepted; no step has run.
    pub queued: usize,
    /// Started, and waiting for its next turn. This includes a task whose step runs inside
    /// [`run_pending`](crate::Service::run_pending), on a thread that is not a worker.
    pub waiting: usize,
    /// Its step runs on a worker at this moment. At most one task for each worker.
    pub on_worker: usize,
    /// Parked: waiting for the loop, without a thread.
    pub parked: usize,
    /// Ended, not reaped.
    pub ended: usize,
    /// Worker threads that are alive.
    pub threads: usize,
}

impl Counts {
    /// Tasks that have started, are not parked and have not ended.
    pub fn running(&self) -> usize {
        self.waiting + self.on_worker
    }
}

/// Counters since the start of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counters {
    /// Tasks accepted. While no call is in progress this is `finished + panicked + stopped.total()`
    /// plus the tasks that have not ended.
    pub accepted: u64,
    /// Tasks refused.
    pub refused: RefusedCounters,
    /// Tasks that ended with `TaskDone`.
    pub finished: u64,
    /// Tasks that ended as `Stopped`.
    pub stopped: StoppedCounters,
    /// Tasks whose step panicked.
    pub panicked: u64,
    /// The number of tasks that returned `Continue` more than 1,000 times after they were asked to
    /// stop. See [`TaskDump::ignored_stop`].
    pub ignored_stops: u64,
    /// The number of steps that ran.
    pub steps: u64,
    /// How often a task parked.
    pub syncs: u64,
    /// Wake-ups of service loops.
    pub wakes: u64,
    /// Wake-ups of workers.
    pub worker_wakes: u64,
    /// Batches that workers took out of the run queue.
    pub batches: u64,
    /// Tasks that a worker took from the batch of another worker.
    pub steals: u64,
}

/// Refused tasks, by reason: see [`EnqueueError`](crate::EnqueueError).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(missing_docs, reason = "each field counts the reason that is its name")]
#[non_exhaustive]
pub struct RefusedCounters {
    pub queue_full: u64,
    pub too_many_tasks: u64,
    pub connection_full: u64,
    pub shutting_down: u64,
}

/// Stopped tasks, by reason: see [`StopReason`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(missing_docs, reason = "each field counts the reason that is its name")]
#[non_exhaustive]
pub struct StoppedCounters {
    pub returned: u64,
    pub dequeued: u64,
    pub connection_closed: u64,
    pub queue_timeout: u64,
    pub sync_timeout: u64,
    pub deadline: u64,
    pub pool_shutdown: u64,
    pub service_dropped: u64,
    pub shed: u64,
}

impl StoppedCounters {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().sum()
    }

    /// In the order of [`StopReason::ALL`].
    fn by_reason(&self) -> [u64; StopReason::ALL.len()] {
        [
            self.returned,
            self.dequeued,
            self.connection_closed,
            self.queue_timeout,
            self.sync_timeout,
            self.deadline,
            self.pool_shutdown,
            self.service_dropped,
            self.shed,
        ]
    }
}

/// The state of a pool at one moment: the result of [`ThreadPool::dump`](crate::ThreadPool::dump).
///
/// `Display` prints a table with a line for each task. A precision limits the number of tasks:
/// `{:.50}` prints at most 50.
#[doc(alias = "lws_threadpool_dump")]
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolDump {
    /// The pool's name.
    pub pool: String,
    /// Microseconds since the pool was built.
    pub uptime_us: u64,
    /// The number of `tasks` in each state, and the number of worker threads.
    pub counts: Counts,
    /// Counters since the start of the pool.
    pub counters: Counters,
    /// The last 32 tasks that have panicked, have timed out, or were shed, the oldest first.
    pub abnormal_ends: Vec<EndDump>,
    /// Every mailbox, ordered by service.
    pub mailboxes: Vec<MailboxDump>,
    /// Every task that has not been reaped, ordered by service.
    pub tasks: Vec<TaskDump>,
}

impl PoolDump {
    pub(crate) fn of(scheduler: &Scheduler) -> Self {
        let now = scheduler.clock.now();
        let (mut tasks, mut mailboxes) = (Vec::new(), Vec::new());
        for service in scheduler.registry.services() {
            mailboxes.extend(service.dump_mailboxes());
            let mut from = Some(0);
            while let Some(slot) = from {
                from = service.copy_tasks(slot, now, &mut tasks);
            }
        }
        keep_last_on_each_worker(&mut tasks);
        Self {
            pool: scheduler.name.clone(),
            uptime_us: now.saturating_sub(scheduler.born) / 1000,
            counts: Counts::of_tasks(&tasks, scheduler.live_workers()),
            counters: Counters::of(scheduler),
            abnormal_ends: scheduler.abnormal_ends.copy(),
            mailboxes,
            tasks,
        }
    }
}

/// Workers continue while tasks are copied one after the other, so several tasks may seem to be on
/// one worker. Only the last of them still is.
fn keep_last_on_each_worker(tasks: &mut [TaskDump]) {
    let mut seen = HashSet::new();
    for task in tasks.iter_mut().rev() {
        task.worker = task.worker.filter(|&worker| seen.insert(worker));
    }
}

impl Counts {
    /// The counts from the counters of the pool.
    pub(crate) fn of(scheduler: &Scheduler) -> Self {
        let sums = scheduler.sums();
        let admission = &scheduler.admission;
        let (accepted, never_ran) = (admission.accepted(), admission.never_ran());
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let parked = sums.parked.saturating_sub(sums.unparked);
        let ended_started = sums.ended().saturating_sub(never_ran);
        let running = size(sums.started.saturating_sub(ended_started + parked));
        let on_worker = scheduler.busy_workers().min(running);
        Self {
            queued: size(accepted.saturating_sub(never_ran + sums.started)),
            waiting: running - on_worker,
            on_worker,
            parked: size(parked),
            ended: size(sums.ended().saturating_sub(sums.reaped)),
            threads: scheduler.live_workers(),
        }
    }

    fn of_tasks(tasks: &[TaskDump], threads: usize) -> Self {
        let mut counts = Self {
            threads,
            ..Self::default()
        };
        for task in tasks {
            *match task.phase {
                Phase::Queued => &mut counts.queued,
                Phase::Parked => &mut counts.parked,
                ended if ended.is_ended() => &mut counts.ended,
                _ if task.worker.is_some() => &mut counts.on_worker,
                _ => &mut counts.waiting,
            } += 1;
        }
        counts
    }
}

impl Counters {
    fn of(scheduler: &Scheduler) -> Self {
        let sums: Sums = scheduler.sums();
        let stopped = |reason: StopReason| sums.stopped[reason.index()];
        Self {
            accepted: scheduler.admission.accepted(),
            refused: RefusedCounters {
                queue_full: sums.refused_queue,
                too_many_tasks: sums.refused_tasks,
                connection_full: sums.refused_connection,
                shutting_down: sums.refused_shutting_down,
            },
            finished: sums.finished,
            stopped: StoppedCounters {
                returned: stopped(StopReason::Returned),
                dequeued: stopped(StopReason::Dequeued),
                connection_closed: stopped(StopReason::ConnectionClosed),
                queue_timeout: stopped(StopReason::TimedOut(Timeout::Queue)),
                sync_timeout: stopped(StopReason::TimedOut(Timeout::Sync)),
                deadline: stopped(StopReason::TimedOut(Timeout::Deadline)),
                pool_shutdown: stopped(StopReason::PoolShutdown),
                service_dropped: stopped(StopReason::ServiceDropped),
                shed: stopped(StopReason::Shed),
            },
            panicked: sums.panicked,
            ignored_stops: sums.ignored_stops,
            steps: sums.steps,
            syncs: sums.parked,
            wakes: sums.wakes,
            worker_wakes: sums.worker_wakes,
            batches: sums.batches,
            steals: sums.steals,
        }
    }
}

impl fmt::Display for PoolDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "pool {:?}: {} {}, up {}",
            self.pool,
            counts.threads,
            if counts.threads == 1 { "thread" } else { "threads" },
            Span(self.uptime_us)
        )?;
        writeln!(
            f,
            "tasks     queued {}  waiting {}  on a worker {}  parked {}  ended {}",
            counts.queued, counts.waiting, counts.on_worker, counts.parked, counts.ended
        )?;
        f.write_str("status  ")?;
        for status in Status::ALL {
            let tasks = self.tasks.iter().filter(|task| task.status == status);
            write!(f, "  {status} {}", tasks.count())?;
        }
        writeln!(f)?;
        self.counters.fmt(f)?;
        self.abnormal_ends
            .iter()
            .try_for_each(|end| line_of_end(end, self.uptime_us, f))?;
        self.mailboxes
            .iter()
            .try_for_each(|mailbox| line_of(mailbox, f))?;
        let shown = f.precision().unwrap_or(usize::MAX).min(self.tasks.len());
        table(f, &self.tasks[..shown])?;
        match self.tasks.len() - shown {
            0 => Ok(()),
            more => writeln!(f, "... and {more} more"),
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.refused;
        writeln!(
            f,
            "since start  accepted {}  finished {}  stopped {}  panicked {}",
            self.accepted,
            self.finished,
            self.stopped.total(),
            self.panicked
        )?;
        writeln!(
            f,
            "refused   queue full {}  too many tasks {}  connection full {}  shutting down {}",
            r.queue_full, r.too_many_tasks, r.connection_full, r.shutting_down
        )?;
        f.write_str("stopped ")?;
        for (reason, n) in StopReason::ALL.iter().zip(self.stopped.by_reason()) {
            write!(f, "  {reason} {n}")?;
        }
        if self.ignored_stops > 0 {
            write!(f, "  ignored it {}", self.ignored_stops)?;
        }
        writeln!(
            f,
            "\nwork      steps {}  syncs {}  wakes {}  worker wakes {}  batches {}  steals {}",
            self.steps, self.syncs, self.wakes, self.worker_wakes, self.batches, self.steals
        )
    }
}

fn line_of(mailbox: &MailboxDump, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let m = mailbox;
    writeln!(
        f,
        "mailbox   service {}  messages {} of {}  high-water mark {}  waiting senders {}  dropped {}  \
         notifications {}  type {}",
        m.service,
        m.length,
        m.capacity,
        m.high_water_mark,
        m.waiting_senders,
        m.dropped,
        m.notifications,
        on_one_line(m.message_type, NAME_MAX)
    )
}

fn line_of_end(end: &EndDump, uptime_us: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "ended     {}  {} ago  id {}",
        end.reason,
        Span(uptime_us.saturating_sub(end.at_us)),
        end.id
    )?;
    if let Some(name) = &end.name {
        write!(f, "  name {}", on_one_line(name, NAME_MAX))?;
    }
    write!(f, "  connection {}  alive {}", end.connection, Span(end.alive_us))?;
    write!(f, "  queued {}  run {}", Span(end.queued_us), Span(end.run_us))?;
    if let Some(location) = &end.location {
        write!(f, "  at {}", on_one_line(location, LOCATION_MAX))?;
    }
    match &end.message {
        Some(message) => writeln!(f, "  message {}", on_one_line(message, MESSAGE_MAX)),
        None => writeln!(f),
    }
}

/// The tasks as a table. Each column is as wide as its longest cell.
fn table(f: &mut fmt::Formatter<'_>, tasks: &[TaskDump]) -> fmt::Result {
    const HEAD: [&str; COLUMNS] = [
        "id",
        "name",
        "connection",
        "status",
        "for",
        "alive",
        "queued",
        "worker",
        "run %",
        "sync %",
    ];
    let rows: Vec<[String; COLUMNS]> = tasks.iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    line(f, &widths, &HEAD.map(str::to_owned))?;
    rows.iter().try_for_each(|row| line(f, &widths, row))
}

const COLUMNS: usize = 10;
/// Text is aligned to the left, numbers to the right.
const IS_TEXT: [bool; COLUMNS] = [false, true, false, true, false, false, false, false, false, false];

fn line(f: &mut fmt::Formatter<'_>, widths: &[usize; COLUMNS], row: &[String; COLUMNS]) -> fmt::Result {
    for (column, (text, &width)) in row.iter().zip(widths).enumerate() {
        let gap = if column == 0 { "" } else { "  " };
        if IS_TEXT[column] {
            write!(f, "{gap}{text:<width$}")?;
        } else {
            write!(f, "{gap}{text:>width$}")?;
        }
    }
    writeln!(f)
}

fn row(task: &TaskDump) -> [String; COLUMNS] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        task.id.to_string(),
        or_dash(task.name.as_deref().map(|name| on_one_line(name, NAME_MAX))),
        or_dash(task.connection.map(|conn| conn.to_string())),
        match task.delay_left_us {
            Some(left) => format!("delayed {}", Span(left)),
            None => task.status_text(),
        },
        Span(task.in_status_us).to_string(),
        Span(task.alive_us).to_string(),
        Span(task.queued_us).to_string(),
        or_dash(task.worker.map(|worker| worker.to_string())),
        format!("{:.1}", task.run_percent),
        format!("{:.1}", task.sync_percent),
    ]
}

/// Whether a character would break the layout of the text: a control character, a line break, a
/// mark of direction, or an invisible character.
fn disturbs(c: char) -> bool {
    let is_format = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || is_format
}

/// The largest number of characters shown of a name, and of the location and the message of a
/// panic.
const NAME_MAX: usize = 32;
const LOCATION_MAX: usize = 240;
const MESSAGE_MAX: usize = 120;

/// A text in a form that fits into one line: its first characters, without control characters.
fn on_one_line(text: &str, longest: usize) -> String {
    let mut text: String = text
        .chars()
        .map(|c| if disturbs(c) { '?' } else { c })
        .take(longest + 1)
        .collect();
    if text.chars().count() > longest {
        text = text.chars().take(longest - 1).chain(['…']).collect();
    }
    text
}

/// Microseconds with three or four digits and a unit.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us @ 0..10_000 => write!(f, "{us} us"),
            us @ 10_000..10_000_000 => write!(f, "{} ms", us / 1000),
            us @ 10_000_000..36_000_000_000 => write!(f, "{} s", us / 1_000_000),
            us => write!(f, "{} h", us / 3_600_000_000),
        }
    }
}
