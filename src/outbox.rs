//! What a loop has posted and no worker has taken yet.
//!
//! Two lists, each with a lock of its own on cache lines of its own, so that posting a task contends with nobody. The loop *stages* jobs in the
//! one until they make a batch, then moves them to the other, where busy workers look: so lines go from core to core once for a batch.
//! A worker that looks finds what is staged only where nothing else was posted, or when all is put in line.
//!
//! As long as no connection has two jobs posted, the order in which they came is the fair order too, and workers take them as they are;
//! else the outbox is emptied into the fair queue. Either is done under the queue's lock: lock order is queue, staged, posted.

use crate::primitive::{Mutex, MutexGuard};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;

/// An empty outbox keeps the memory of so many tasks.
const KEPT: usize = 4096;

pub(crate) struct Outbox<J: ?Sized> {
    staged: CachePadded<Mutex<Vec<Post<J>>>>,
    posted: CachePadded<Mutex<Posted<J>>>,
}

struct Posted<J: ?Sized> {
    posts: VecDeque<Post<J>>,
    /// Those that were not taken out again.
    len: usize,
    /// The number of the first; they are numbered as they come.
    begin: u32,
    /// The number of each connection's last one, in or out.
    marks: Vec<u32>,
    /// Some connection has two.
    is_mixed: bool,
}

struct Post<J: ?Sized> {
    conn: u32,
    /// `None` if it was taken out.
    job: Option<Box<J>>,
}

impl<J: ?Sized> Outbox<J> {
    pub(crate) fn new() -> Self {
        let posted = Posted {
            posts: VecDeque::new(),
            len: 0,
            begin: 0,
            marks: Vec::new(),
            is_mixed: false,
        };
        Self {
            staged: CachePadded::new(Mutex::new(Vec::new())),
            posted: CachePadded::new(Mutex::new(posted)),
        }
    }

    /// Stages a job of the connection with this slot; moves all if they are a batch now. Gives how many wait, if somebody may have to be
    /// told: all after a move, 1 for the first that is staged. `None` for the others, since somebody will look for the first.
    #[inline]
    pub(crate) fn post(&self, conn: u32, job: Box<J>, batch: usize) -> Option<usize> {
        let mut staged = self.staged.lock();
        staged.push(Post { conn, job: Some(job) });
        let is_first = staged.len() == 1;
        if staged.len() >= batch {
            Some(self.bring(&mut staged).len)
        } else {
            is_first.then_some(1)
        }
    }

    /// Moves what is staged to where workers look.
    fn bring(&self, staged: &mut Vec<Post<J>>) -> MutexGuard<'_, Posted<J>> {
        let mut posted = self.posted.lock();
        posted.add(staged);
        posted
    }

    /// What was posted, with what was staged.
    fn all(&self) -> MutexGuard<'_, Posted<J>> {
        self.bring(&mut self.staged.lock())
    }

    /// How many there are, staged or not. Moves nothing.
    pub(crate) fn len(&self) -> usize {
        let staged = self.staged.lock();
        self.posted.lock().len + staged.len()
    }

    /// Moves what is staged to where workers look, if there is nothing.
    pub(crate) fn fill(&self) {
        if self.is_empty() {
            drop(self.all());
        }
    }

    /// Whether nothing was posted, or all of it is staged.
    pub(crate) fn is_empty(&self) -> bool {
        self.posted.lock().len == 0
    }

    /// Whether some connection has two of those that are not staged.
    pub(crate) fn is_mixed(&self) -> bool {
        self.posted.lock().is_mixed
    }

    /// Takes up to `max` jobs in the order in which they came, if that is fair. Gives how many are left, not counting
    /// what is staged. Only moves them: the loop may be waiting for the lock.
    pub(crate) fn take(&self, max: usize, jobs: &mut Vec<Box<J>>) -> Option<usize> {
        let mut posted = self.posted.lock();
        if posted.is_mixed {
            return None;
        }
        let before = jobs.len();
        while jobs.len() < before + max
            && let Some(post) = posted.posts.pop_front()
        {
            posted.begin = posted.begin.wrapping_add(1);
            jobs.extend(post.job);
        }
        posted.len -= jobs.len() - before;
        posted.tidy();
        Some(posted.len)
    }

    pub(crate) fn take_all(&self, jobs: &mut Vec<Box<J>>) {
        let mut posted = self.all();
        posted.begin = posted.begin.wrapping_add(posted.posts.len() as u32);
        jobs.extend(posted.posts.drain(..).filter_map(|post| post.job));
        posted.len = 0;
        posted.tidy();
    }

    /// Takes out the job of a connection, if that has one and it is the one that is meant. O(1), and what was staged is moved.
    pub(crate) fn remove(&self, conn: u32, is_meant: impl FnOnce(&J) -> bool) -> Option<Box<J>> {
        let mut posted = self.all();
        let mark = *posted.marks.get(conn as usize)?;
        let place = mark.wrapping_sub(posted.begin) as usize;
        let post = posted.posts.get_mut(place)?;
        let job = post.job.take_if(|job| is_meant(job))?;
        posted.len -= 1;
        posted.marks[conn as usize] = posted.begin.wrapping_sub(1);
        posted.tidy();
        Some(job)
    }
}

impl<J: ?Sized> Posted<J> {
    fn add(&mut self, staged: &mut Vec<Post<J>>) {
        let before = self.posts.len() as u32;
        for (place, post) in (before..).zip(&*staged) {
            let conn = post.conn as usize;
            if conn >= self.marks.len() {
                let out = self.begin.wrapping_sub(1);
                self.marks.resize(conn + 1, out);
            }
            let mark = std::mem::replace(&mut self.marks[conn], self.begin.wrapping_add(place));
            self.is_mixed |= mark.wrapping_sub(self.begin) < place;
        }
        self.len += staged.len();
        self.posts.extend(staged.drain(..));
    }

    /// Keeps no more memory than it should.
    #[inline]
    fn tidy(&mut self) {
        if self.len == 0 {
            self.begin = self.begin.wrapping_add(self.posts.len() as u32);
            self.posts.clear();
            self.is_mixed = false;
            if self.posts.capacity() > KEPT {
                self.posts = VecDeque::new();
            }
        } else if self.posts.len() > 2 * self.len + KEPT {
            self.posts.retain(|post| post.job.is_some());
            for (place, post) in (0..).zip(&self.posts) {
                self.marks[post.conn as usize] = self.begin.wrapping_add(place);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn take(outbox: &Outbox<u32>, max: usize) -> Option<Vec<u32>> {
        let mut taken = Vec::new();
        outbox.take(max, &mut taken)?;
        Some(taken.into_iter().map(|job| *job).collect())
    }

    /// Who had been taken out with all others still counted as posted: once mixed, an outbox hardly ever came back to one job for
    /// each connection.
    #[test]
    fn what_was_taken_with_all_others_is_out() {
        let outbox = Outbox::new();
        for round in [[0, 0, 1, 2], [2, 1, 0, 3]] {
            for job in round {
                outbox.post(job, Box::new(job), 1);
            }
            assert_eq!(outbox.is_mixed(), round[0] == round[1]);
            outbox.take_all(&mut Vec::new());
        }
    }

    #[test]
    fn the_memory_of_a_burst_is_given_up_when_it_is_over() {
        for (jobs, is_kept) in [(8, true), (2 * KEPT as u32, false)] {
            let outbox = Outbox::new();
            (0..jobs).for_each(|job| _ = outbox.post(job, Box::new(job), 1));
            outbox.take_all(&mut Vec::new());
            assert_eq!(outbox.posted.lock().posts.capacity() > 0, is_kept, "{jobs} jobs");
        }
    }

    #[test]
    fn while_each_connection_has_one_job_they_are_taken_as_they_came() {
        let outbox = Outbox::new();
        for job in [3, 1, 2] {
            outbox.post(job, Box::new(job), 1);
        }
        assert_eq!(take(&outbox, 2), Some(vec![3, 1]));
        assert_eq!(outbox.post(3, Box::new(3), 1), Some(2), "one is left");
        assert_eq!(take(&outbox, 9), Some(vec![2, 3]));
        assert_eq!(outbox.post(3, Box::new(3), 1), Some(1));
    }

    #[test]
    fn when_a_connection_has_two_all_must_be_taken() {
        let outbox = Outbox::new();
        for job in [3, 1, 3] {
            outbox.post(job, Box::new(job), 1);
        }
        assert_eq!(take(&outbox, 1), None);
        let mut all = Vec::new();
        outbox.take_all(&mut all);
        assert_eq!(all, [3, 1, 3].map(Box::new));
        outbox.post(3, Box::new(3), 1);
        assert_eq!(take(&outbox, 1), Some(vec![3]));
    }

    #[test]
    fn one_that_is_taken_out_leaves_the_others_as_they_are() {
        let outbox = Outbox::new();
        for job in 0..5 {
            outbox.post(job, Box::new(job), 1);
        }
        assert_eq!(outbox.remove(2, |_| false), None);
        assert_eq!(outbox.remove(2, |&job| job == 2), Some(Box::new(2)));
        assert_eq!(outbox.remove(2, |_| true), None);
        assert_eq!(outbox.post(2, Box::new(2), 1), Some(5));
        assert_eq!(take(&outbox, 3), Some(vec![0, 1, 3]));
        assert_eq!(outbox.remove(4, |_| true), Some(Box::new(4)));
        assert_eq!(take(&outbox, 9), Some(vec![2]));
    }

    /// Behind one that nobody takes, jobs come and are taken out again.
    #[test]
    fn holes_do_not_pile_up() {
        let outbox = Outbox::new();
        let conns = || (1..100).cycle().take(10 * KEPT);
        outbox.post(0, Box::new(0), 1);
        outbox.post(99, Box::new(99), 1);
        for conn in conns() {
            outbox.post(conn, Box::new(conn), 1);
            let before = if conn == 1 { 99 } else { conn - 1 };
            assert_eq!(outbox.remove(before, |_| true), Some(Box::new(before)));
        }
        assert!(outbox.posted.lock().posts.len() <= 2 * KEPT);
        assert_eq!(take(&outbox, 9).map(|left| left.len()), Some(2));
    }

    #[test]
    fn the_numbers_may_wrap() {
        let outbox = Outbox::new();
        outbox.posted.lock().begin = u32::MAX - 1;
        for job in 0..4 {
            outbox.post(job, Box::new(job), 1);
        }
        assert_eq!(take(&outbox, 3), Some(vec![0, 1, 2]));
        outbox.post(3, Box::new(3), 1);
        assert_eq!(take(&outbox, 9), None, "the last one is still in it");
    }

    #[test]
    fn jobs_are_staged_until_they_are_a_batch() {
        let outbox = Outbox::new();
        let post = |jobs: &[u32]| -> Vec<_> {
            jobs.iter()
                .map(|&job| outbox.post(job, Box::new(job), 3))
                .collect()
        };
        assert_eq!(post(&[0, 1, 2, 3]), [Some(1), None, Some(3), Some(1)]);
        outbox.fill();
        assert_eq!(take(&outbox, 9), Some(vec![0, 1, 2]), "there was something");
        assert_eq!((outbox.len(), outbox.is_empty()), (1, true));
        outbox.fill();
        assert_eq!(take(&outbox, 9), Some(vec![3]));
        assert_eq!(post(&[4, 5]), [Some(1), None]);
        assert_eq!(outbox.len(), 2);
        outbox.fill();
        assert_eq!(post(&[6, 5]), [Some(1), None]);
        assert!(!outbox.is_mixed(), "one is staged");
        assert_eq!(outbox.remove(6, |_| true), Some(Box::new(6)));
        assert!(outbox.is_mixed());
        assert_eq!(post(&[7]), [Some(1)]);
        let mut all = Vec::new();
        outbox.take_all(&mut all);
        assert_eq!(all, [4, 5, 5, 7].map(Box::new));
    }
}
