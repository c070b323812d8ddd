//! What threads tell each other without a lock: hints, from which only effort follows, never correctness.
//!
//! # Batches
//!
//! A worker that takes each task as it comes finds one at a time, and the outbox goes to and fro between its core and the loop's with
//! each. So while a loop goes through what was announced, or posts a burst, what it posts stays staged ([`crate::outbox`]) until it is a
//! batch, or the last ([`Tempo`] guesses which is the last, and whether more comes soon). Nobody waits long for more to come: a worker
//! that has nothing else to do watches for a moment (10 to 20 us) and then looks, whatever it was told; one that looks
//! for what others have posted takes what is staged along; and a task gives way after its time slice to anything that was staged.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a batch should take: nobody waits longer than that for what a batch brings. It is also what a wake-up of a worker costs, about:
/// work that takes less is not worth one if somebody will look soon.
pub(crate) const BATCH_NANOS: u64 = 20_000;
/// So many tasks at most are a batch.
pub(crate) const BATCH_MAX: usize = 32;

/// A worker that found fewer tasks than that, and then no more, serves a loop that has few in flight.
const SOME: u32 = if cfg!(loom) { 1 } else { 3 };

/// What may be in the outboxes: so much that a worker should look, or all that will come.
const POSTED: u8 = 1;
/// Something was staged, to which more will come, since a task last gave way.
const STAGED: u8 = 2;

/// How long a task takes, and how many are a batch.
#[derive(Debug)]
struct Pace {
    nanos: AtomicU64,
    batch: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Hints {
    in_line: CachePadded<AtomicUsize>,
    mail: CachePadded<AtomicU8>,
    pace: CachePadded<Pace>,
    sparse: CachePadded<AtomicBool>,
    /// When a worker last ran out of work.
    idle_since: CachePadded<AtomicU64>,
}

/// So many posts at once are a burst, of which more is to come.
const BURST: usize = if cfg!(loom) { 1 } else { 8 };
/// A loop that takes longer from one post to the next, since it writes to a socket in between, is not worth waiting for.
const SOON_NANOS: u64 = 1_000;

/// Whether a loop that posts a task will soon post more. Written by the loop (and by who finishes the pool, which does no harm).
#[derive(Debug)]
pub(crate) struct Tempo {
    /// So many of the tasks that were last announced it has not looked at.
    unseen: AtomicUsize,
    /// So often it has posted since then.
    posts: AtomicUsize,
    /// When it last posted.
    last: AtomicU64,
}

impl Tempo {
    pub(crate) fn new() -> Self {
        Self {
            unseen: AtomicUsize::new(0),
            posts: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// The loop was told of so many tasks.
    pub(crate) fn note_announced(&self, tasks: usize) {
        self.unseen.store(tasks, Relaxed);
        self.posts.store(0, Relaxed);
        // The first post follows at once, however long the loop has slept.
        self.last.store(u64::MAX, Relaxed);
    }

    /// It has looked at one.
    #[inline]
    pub(crate) fn note_looked(&self) {
        self.unseen
            .store(self.unseen.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// It posts a task. True: it will soon post more.
    #[inline]
    pub(crate) fn note_posted(&self, now: u64) -> bool {
        let since = now.saturating_sub(self.last.load(Relaxed));
        self.last.store(now, Relaxed);
        if since > SOON_NANOS {
            return false;
        }
        if self.unseen.load(Relaxed) > 0 {
            return true;
        }
        let posts = self.posts.load(Relaxed) + 1;
        self.posts.store(posts, Relaxed);
        posts > BURST
    }
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self {
            in_line: CachePadded::new(AtomicUsize::new(0)),
            mail: CachePadded::new(AtomicU8::new(0)),
            // Unknown counts as long.
            pace: CachePadded::new(Pace {
                nanos: AtomicU64::new(u64::MAX),
                batch: AtomicUsize::new(1),
            }),
            sparse: CachePadded::new(AtomicBool::new(false)),
            idle_since: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// So many tasks are in line, or were seen in an outbox and make a batch.
    pub(crate) fn set_in_line(&self, tasks: usize) {
        self.in_line.store(tasks, Relaxed);
    }

    /// Something was posted or staged. Written only when it is news.
    #[inline]
    pub(crate) fn note_posted(&self, is_staged: bool) {
        let mail = if is_staged { STAGED } else { POSTED };
        if self.mail.load(Relaxed) & mail == 0 {
            self.mail.fetch_or(mail, Relaxed);
        }
    }

    /// The caller is about to look into the outboxes; something may stay staged there.
    pub(crate) fn open_mail(&self) {
        if self.has_mail() {
            self.mail.fetch_and(!POSTED, Relaxed);
        }
    }

    /// The caller is about to empty the outboxes.
    pub(crate) fn clear_mail(&self) {
        if self.mail.load(Relaxed) != 0 {
            self.mail.store(0, Relaxed);
        }
    }

    /// Something was left in the outboxes, if less than a batch: it has waited long enough.
    pub(crate) fn note_left(&self) {
        self.note_posted(false);
    }

    /// Whether the outboxes are worth a look.
    pub(crate) fn has_mail(&self) -> bool {
        self.mail.load(Relaxed) & POSTED != 0
    }

    /// How many tasks of the present kind make a batch.
    #[inline]
    pub(crate) fn batch(&self) -> usize {
        self.pace.batch.load(Relaxed)
    }

    /// Whether there is so much for a worker that it should take it.
    pub(crate) fn is_worth_looking(&self) -> bool {
        self.in_line.load(Relaxed) > 0 || self.has_mail()
    }

    /// Whether anybody waits for a worker.
    pub(crate) fn anybody_waits(&self) -> bool {
        self.in_line.load(Relaxed) > 0 || self.mail.load(Relaxed) != 0
    }

    /// A worker's last batch took so long per task. Written only when it is news, since every worker reads it.
    pub(crate) fn set_pace(&self, nanos: u64) {
        let pace = self.pace.nanos.load(Relaxed);
        if nanos > pace.saturating_mul(2) || nanos < pace / 2 {
            self.pace.nanos.store(nanos, Relaxed);
            let fits = BATCH_NANOS / nanos.max(1);
            let batch = fits.clamp(1, BATCH_MAX as u64) as usize;
            self.pace.batch.store(batch, Relaxed);
        }
    }

    /// A worker ran so many tasks, at least one, before it found no more, which was now.
    pub(crate) fn note_run(&self, tasks: u32, now: u64) {
        let is_sparse = tasks < SOME;
        if is_sparse != self.sparse.load(Relaxed) {
            self.sparse.store(is_sparse, Relaxed);
        }
        self.idle_since.store(now, Relaxed);
    }

    /// How long ago a worker last ran out of work.
    pub(crate) fn idle_for(&self, now: u64) -> u64 {
        now.saturating_sub(self.idle_since.load(Relaxed))
    }

    /// Whether there is so much to do, and in so short pieces, that it pays to put off wake-ups and to stay awake for what comes next. With
    /// one task in flight it pays at most to watch for the next.
    pub(crate) fn is_brisk(&self) -> bool {
        self.are_short() && !self.sparse.load(Relaxed)
    }

    /// Whether steps are so short that the largest batch is through in the time that a batch may take.
    pub(crate) fn are_tiny(&self) -> bool {
        self.batch() >= BATCH_MAX
    }

    /// Whether a step takes less than a wake-up.
    pub(crate) fn are_short(&self) -> bool {
        self.pace.nanos.load(Relaxed) < BATCH_NANOS
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Whether a worker should look, and whether anybody waits.
    fn of(hints: &Hints) -> [bool; 2] {
        [hints.is_worth_looking(), hints.anybody_waits()]
    }

    #[test]
    fn what_is_staged_waits_and_what_is_posted_is_worth_looking() {
        let hints = Hints::new();
        assert_eq!(of(&hints), [false, false]);
        hints.note_posted(true);
        assert_eq!(of(&hints), [false, true]);
        hints.note_posted(false);
        assert_eq!(of(&hints), [true, true]);
        hints.open_mail();
        assert_eq!(of(&hints), [false, true], "it may still be staged");
        hints.note_left();
        assert_eq!(of(&hints), [true, true]);
        hints.clear_mail();
        assert_eq!(of(&hints), [false, false]);
    }

    #[test]
    fn a_line_is_worth_looking() {
        let hints = Hints::new();
        hints.set_in_line(1);
        assert_eq!(of(&hints), [true, true]);
        hints.set_in_line(0);
        assert_eq!(of(&hints), [false, false]);
    }

    #[test]
    fn steps_are_short_when_they_take_less_than_a_wake_up() {
        assert!(!Hints::new().are_short(), "unknown counts as long");
        let are_short = [BATCH_NANOS - 1, BATCH_NANOS].map(|pace| {
            let hints = Hints::new();
            hints.set_pace(pace);
            [hints.are_short(), hints.is_brisk()]
        });
        assert_eq!(are_short, [[true; 2], [false; 2]]);
    }

    #[test]
    fn a_batch_is_what_takes_as_long_as_one_may_wait_for_it() {
        let hints = Hints::new();
        assert_eq!(hints.batch(), 1, "unknown counts as long");
        let most = BATCH_MAX as u64;
        for (pace, batch) in [
            (0, BATCH_MAX),
            (BATCH_NANOS / most, BATCH_MAX),
            (BATCH_NANOS / 3, 3),
            (BATCH_NANOS + 1, 1),
        ] {
            let hints = Hints::new();
            hints.set_pace(pace);
            assert_eq!(hints.batch(), batch, "{pace} ns each");
            assert_eq!(hints.are_tiny(), batch == BATCH_MAX, "{pace} ns each");
        }
    }

    #[test]
    fn a_loop_posts_more_until_it_has_looked_at_all_that_was_announced() {
        let tempo = Tempo::new();
        assert!(!tempo.note_posted(0), "nothing was announced");
        tempo.note_announced(2);
        tempo.note_looked();
        assert_eq!([(); BURST + 1].map(|()| tempo.note_posted(0)), [true; BURST + 1]);
        tempo.note_looked();
        assert!(
            !tempo.note_posted(0),
            "what came before counts for what was announced"
        );
        tempo.note_looked();
        assert!(!tempo.note_posted(0), "it may look at others, too");
    }

    #[test]
    fn a_loop_that_takes_its_time_is_not_waited_for() {
        let tempo = Tempo::new();
        tempo.note_announced(3);
        let posts = [0, SOON_NANOS, 2 * SOON_NANOS + 1, 2 * SOON_NANOS + 2];
        assert_eq!(posts.map(|now| tempo.note_posted(now)), [true, true, false, true]);
    }

    #[test]
    fn many_posts_are_followed_by_more() {
        let tempo = Tempo::new();
        assert_eq!([(); BURST].map(|()| tempo.note_posted(0)), [false; BURST]);
        assert!(tempo.note_posted(0));
        tempo.note_announced(0);
        assert!(!tempo.note_posted(0), "it has looked in between");
    }

    #[test]
    fn one_task_at_a_time_is_not_brisk() {
        let hints = Hints::new();
        hints.set_pace(1);
        for (run, is_brisk) in [(SOME - 1, false), (SOME, true), (1, false)] {
            hints.note_run(run, 0);
            assert_eq!(hints.is_brisk(), is_brisk, "after a run of {run}");
        }
    }

    #[test]
    fn a_pace_is_news_when_it_is_more_than_twice_as_fast_or_slow() {
        for (before, now, is_news) in [
            (8, 4, false),
            (8, 3, true),
            (8, 16, false),
            (8, 17, true),
            (u64::MAX, u64::MAX / 2, false),
            (u64::MAX, 1, true),
        ] {
            let hints = Hints::new();
            hints.pace.nanos.store(before, Relaxed);
            hints.set_pace(now);
            let expected = if is_news { now } else { before };
            assert_eq!(hints.pace.nanos.load(Relaxed), expected, "{now} after {before}");
        }
    }
}
