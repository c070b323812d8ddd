//! A server that builds its pool and then becomes a daemon: the pool's threads exist in the parent
//! process only.

#![cfg(unix)]

mod util;

use daemonize::Daemonize;
use moored::EnqueueError;
use std::path::{Path, PathBuf};
use std::process::Command;
use util::{Loop, PATIENCE, Work, eventually};

/// The name of the file to which the daemon writes its report.
const REPORT: &str = "MOORED_TEST_FORK_REPORT";

/// The child uses a pool of its parent.
fn use_it_in_the_child(report: &Path) {
    let pool = util::pool(2);
    let mut lp = Loop::new(&pool);
    lp.enqueue(1, Work::parks()).unwrap();
    lp.parked(1);
    Daemonize::new().start().expect("a fork");
    // The code after this line runs in another process. The parent process has ended in `start`. Up
    // to 63 tasks are accepted if both workers were awake at the moment of the fork.
    let accepted = (0..200)
        .take_while(|_| !matches!(lp.enqueue(2, Work::done()), Err(EnqueueError::Forked(_))))
        .count();
    let waits = [pool.estimated_wait(), lp.estimated_wait(1)];
    let joined = pool.join_timeout(PATIENCE);
    drop(lp);
    drop(pool);
    let own_pool = util::pool(1);
    let own = Loop::new(&own_pool).enqueue(1, Work::done()).is_ok();
    let text = format!("refuses {}, {waits:?}, {joined:?}, own {own}", accepted < 64);
    std::fs::write(report, text).expect("a place for the report");
}

fn report() -> PathBuf {
    std::env::temp_dir().join(format!("moored-fork-{}", std::process::id()))
}

/// U16: the pool accepted tasks that never ran, and its drop panicked.
#[test]
fn a_pool_refuses_tasks_in_a_forked_child() {
    if let Some(report) = std::env::var_os(REPORT) {
        use_it_in_the_child(Path::new(&report));
        std::process::exit(0);
    }
    let report = report();
    let mut parent = Command::new(std::env::current_exe().expect("this test"));
    parent.args(["--exact", "a_pool_refuses_tasks_in_a_forked_child"]);
    let status = parent.env(REPORT, &report).status().expect("it can be started");
    assert!(status.success(), "{status}");
    let mut text = String::new();
    eventually("the child reports", || {
        text = std::fs::read_to_string(&report).unwrap_or_default();
        !text.is_empty()
    });
    std::fs::remove_file(&report).expect("it was written");
    assert_eq!(text, "refuses true, [0ns, 0ns], Ok(()), own true");
}
