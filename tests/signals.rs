//! A loop and its operating system: signals interrupt its poll, and file descriptors run out.
#![cfg(target_os = "linux")]

mod util;

use mio::{Events, Poll, Token, Waker};
use moored::{TaskStatus, ThreadPool};
use std::fs::{File, read_link};
use std::io::ErrorKind;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use util::{Loop, PATIENCE, Work, pool};

const SIGNALS: u32 = 20;

/// S6: signals interrupt the loop's thread again and again while it polls. Nothing is lost.
#[test]
fn a_poll_that_signals_interrupt_loses_nothing() {
    ctrlc::set_handler(|| {}).expect("the only handler of this process");
    let mut selector = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let pool = pool(2);
    let mut service = pool.service(Waker::new(selector.registry(), Token(0)).unwrap());
    let me = read_link("/proc/thread-self").unwrap();
    let me = me.file_name().expect("process/task/thread").to_owned();
    let over = Arc::new(AtomicBool::new(false));
    let shooter = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(SeqCst) {
                // Sent to the id of a thread, which the kernel then prefers.
                assert!(
                    Command::new("kill")
                        .arg("-HUP")
                        .arg(&me)
                        .status()
                        .unwrap()
                        .success()
                );
            }
        }
    });
    let (mut interrupted, mut ended, mut enqueued) = (0, 0, 0);
    while interrupted < SIGNALS || ended < enqueued {
        if interrupted < SIGNALS && ended == enqueued {
            for conn in 0..100 {
                service.enqueue(conn, Work::parks_times(3)).unwrap();
            }
            enqueued += 100;
        }
        match selector.poll(&mut events, Some(PATIENCE)) {
            // The poll was interrupted, so the loop calls nothing. The next poll must return the
            // wake-up.
            Err(e) if e.kind() == ErrorKind::Interrupted => {
                interrupted += 1;
                over.store(interrupted >= SIGNALS, SeqCst);
                continue;
            }
            other => {
                other.unwrap();
                assert!(!events.is_empty(), "a wake-up was lost");
            }
        }
        for id in service.take_ready().map(|ready| ready.id) {
            match service.task_status(id) {
                Some(TaskStatus::Syncing(point)) => point.resume(),
                Some(TaskStatus::Finished(_)) => ended += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    shooter.join().unwrap();
}

const CHILD: &str = "MOORED_TEST_WITHOUT_DESCRIPTORS";

/// S23: one descriptor is left, so the poll is made and its waker is not. The loop gets an error.
/// The pool needs no descriptors and continues. The test runs in a process of its own, which has 64
/// descriptors.
#[test]
fn a_waker_that_cannot_be_made_is_an_error() {
    if std::env::var_os(CHILD).is_some() {
        return without_descriptors();
    }
    let this_test = std::env::current_exe().unwrap();
    let child = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 64; exec \"$0\" --exact a_waker_that_cannot_be_made_is_an_error --nocapture",
        ])
        .arg(this_test)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

fn without_descriptors() {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
        assert!(taken.len() < 64, "no limit");
    }
    taken.pop();
    let without_waker = Poll::new().expect("one descriptor is left");
    assert!(Waker::new(without_waker.registry(), Token(0)).is_err());
    let pool = ThreadPool::builder()
        .threads(2)
        .build()
        .expect("threads need no descriptors");
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, Work::parks_times(3)).unwrap();
    lp.end().finished();
    taken.clear();
    let mut selector = Poll::new().unwrap();
    let mut service =
        pool.service(Waker::new(selector.registry(), Token(0)).expect("there are descriptors again"));
    service.enqueue(1, Work::done()).unwrap();
    let mut events = Events::with_capacity(1);
    selector.poll(&mut events, Some(PATIENCE)).unwrap();
    assert_eq!(service.take_ready().count(), 1);
}
