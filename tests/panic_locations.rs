//! `record_panic_locations`. The panic hook is global, so these tests have a process of their own.

mod util;

use moored::{Panic, TaskReturn, TaskStatus, ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;
use util::{Count, Loop, PLENTY, Work, panic_silently};

/// The formatted messages of the panics that the hook of the application saw.
static SEEN: LazyLock<Mutex<Vec<String>>> = LazyLock::new(|| {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload().downcast_ref::<String>();
        SEEN.lock().unwrap().extend(message.cloned());
    }));
    Mutex::default()
});

/// A pool without threads. The application has installed its hook before.
fn recording() -> ThreadPoolBuilder {
    LazyLock::force(&SEEN);
    ThreadPool::builder().threads(0).record_panic_locations()
}

fn panic_of(pool: &ThreadPool, work: Work) -> Panic {
    let mut lp = Loop::new(pool);
    let id = lp.enqueue(1, work).unwrap();
    if pool.counts().threads == 0 {
        lp.run_pending(PLENTY);
    } else {
        assert_eq!(lp.news(), [id]);
    }
    match lp.task_status(id) {
        Some(TaskStatus::Panicked(panic)) => panic,
        other => panic!("{other:?}"),
    }
}

/// The location of a line of this file, without the column.
fn line(line: u32) -> String {
    format!("{}:{line}:", file!())
}

/// L25: on a worker and in `run_pending`. The hook of the application is called as before.
#[test]
fn a_panic_has_its_location() {
    for threads in [0, 1] {
        let pool = recording().threads(threads).build().unwrap();
        let message = format!("no such row, {threads} threads");
        let text = message.clone();
        let panic = panic_of(&pool, Work::new(move |_, _| panic!("{text}")));
        let expected = line(line!() - 1);
        let location = panic.location().expect("it is recorded");
        assert!(location.starts_with(&expected), "{location}");
        assert_eq!(panic.message(), Some(&*message));
        assert_eq!(
            panic.to_string(),
            format!("the task has panicked at {location}: {message}")
        );
        assert!(SEEN.lock().unwrap().contains(&message));
        let dump = pool.dump();
        assert_eq!(dump.abnormal_ends[0].location.as_deref(), Some(location));
        assert!(dump.to_string().contains(&format!("  at {location}  message ")));
    }
}

/// This is also true if another pool of the process has installed the hook.
#[test]
fn a_pool_without_the_option_records_nothing() {
    let other = recording().build().unwrap();
    let pool = ThreadPool::builder().threads(0).build().unwrap();
    let panic = panic_of(&pool, Work::new(|_, _| panic!("a panic without a location")));
    assert_eq!(panic.location(), None);
    assert_eq!(pool.dump().abnormal_ends[0].location, None);
    drop(other);
}

/// `resume_unwind` calls no hook. The location of an earlier panic, which that step has caught,
/// must not be shown.
#[test]
fn an_earlier_panic_does_not_give_its_location_to_a_later_one() {
    let pool = recording().build().unwrap();
    let work = Work::new(|_, step| {
        if step > 1 {
            panic_silently();
        }
        let caught = catch_unwind(|| panic!("caught by the step"));
        assert!(caught.is_err());
        TaskReturn::Continue
    });
    assert_eq!(panic_of(&pool, work).location(), None);
}

#[test]
fn a_panic_that_a_step_catches_and_resumes_keeps_its_location() {
    let pool = recording().build().unwrap();
    let work = Work::new(|_, _| resume_unwind(catch_unwind(|| panic!("resumed")).unwrap_err()));
    let expected = line(line!() - 1);
    let panic = panic_of(&pool, work);
    assert!(panic.location().is_some_and(|at| at.starts_with(&expected)));
}

/// A step runs the steps of another pool, and panics after one of them has panicked.
#[test]
fn steps_inside_steps_have_their_own_locations() {
    let pool = recording().build().unwrap();
    for records in [true, false] {
        let other = ThreadPool::builder().threads(0);
        let inner = if records { recording() } else { other }.build().unwrap();
        let work = Work::new(move |_, _| {
            let panic = panic_of(&inner, Work::new(|_, _| panic!("inner")));
            assert_eq!(panic.location().is_some(), records);
            panic_silently();
        });
        assert_eq!(panic_of(&pool, work).location(), None, "records: {records}");
    }
}

thread_local! {
    static POOL: RefCell<Option<(ThreadPool, Loop<Work>)>> = const { RefCell::new(None) };
}

/// The drop of a pool without threads runs the last steps. The thread-local of the location was
/// dropped before, and the access to it ended the process.
#[test]
fn a_pool_in_a_thread_local_can_run_its_last_steps() {
    let steps = Count::new();
    let counted = steps.clone();
    let thread = std::thread::spawn(move || {
        let pool = recording().build().unwrap();
        POOL.with(|_| {});
        let mut lp = Loop::new(&pool);
        let work = Work::stubborn(move |cx, _| {
            counted.add(1);
            if cx.is_stopping() {
                TaskReturn::Stopped
            } else {
                TaskReturn::Continue
            }
        });
        lp.enqueue(1, work).unwrap();
        lp.run_pending(Duration::ZERO);
        POOL.set(Some((pool, lp)));
    });
    thread.join().unwrap();
    assert_eq!(steps.get(), 2);
}
