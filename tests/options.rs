//! Every option of a pool and of a task has an effect. An invalid option is an error that leaves
//! nothing behind.

#[cfg(target_os = "linux")]
#[path = "util/process.rs"]
mod process;
mod util;

use moored::{
    BuildError, Clock, Context, EnqueueError, Status, StopReason, TaskOptions, TaskReturn, ThreadPool,
    Timeout,
};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use util::{Count, Gate, Log, Loop, PATIENCE, PLENTY, Work, reap};

/// Calls a function on each thread of the pool. The threads run it at the same time, so that no
/// thread runs it twice.
fn ask_each_thread<A: Clone + Send + 'static>(
    pool: &ThreadPool,
    ask: impl Fn(&Context<'_>) -> A + Clone + Send + 'static,
) -> Vec<A> {
    let mut lp = Loop::new(pool);
    let (answers, gate) = (Log::new(), Gate::new());
    let _guard = gate.guard();
    let threads = pool.counts().threads;
    for conn in 0..threads {
        let (ask, answers, gate) = (ask.clone(), answers.clone(), gate.clone());
        let task = Work::new(move |cx, _| {
            answers.add(ask(cx));
            gate.pass();
            TaskReturn::TaskDone
        });
        lp.enqueue(conn as u64, task).unwrap();
    }
    gate.wait_for(threads);
    gate.open();
    lp.ends(threads);
    answers.notes()
}

fn thread_name(cx: &Context<'_>) -> (Option<usize>, String) {
    (
        cx.worker(),
        std::thread::current()
            .name()
            .expect("a pool's threads have names")
            .to_owned(),
    )
}

/// L25: `name` and `threads`.
#[test]
fn threads_have_the_given_number_and_the_name_of_the_pool() {
    let pool = ThreadPool::builder().name("tiles").threads(3).build().unwrap();
    let names: BTreeSet<_> = ask_each_thread(&pool, thread_name).into_iter().collect();
    let expected = [0, 1, 2].map(|n| (Some(n), format!("tiles-{n}")));
    assert_eq!(names, BTreeSet::from(expected));
    assert_eq!(
        (pool.dump().pool.as_str(), pool.dump().counts.threads),
        ("tiles", 3)
    );
    assert!(format!("{pool:?}").contains("tiles"));
}

#[test]
fn the_defaults_are_those_of_the_docs() {
    let pool = ThreadPool::builder().build().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        (pool.counts().threads, pool.dump().pool.as_str()),
        (cores, "moored")
    );
    assert!(
        ask_each_thread(&pool, thread_name)
            .iter()
            .any(|(_, name)| name == "moored-0")
    );

    let pool = ThreadPool::builder().threads(0).build().unwrap();
    let mut lp = Loop::new(&pool);
    for n in 0..1024 {
        lp.enqueue(n, Work::done()).unwrap();
    }
    assert!(
        matches!(lp.enqueue(1, Work::done()), Err(EnqueueError::QueueFull(_))),
        "max_queue_depth 1024"
    );
    let mut accepted = 1024;
    let refused = loop {
        lp.run_pending(PLENTY);
        match lp.enqueue(1, Work::done()) {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, EnqueueError::TooManyTasks(_)));
    assert_eq!(accepted, 100_000, "max_tasks");
}

/// L25: `max_queue_depth` and `max_tasks`. `limits.rs` has the other tests of them.
#[test]
fn the_limits_are_the_ones_given() {
    let pool = ThreadPool::builder()
        .threads(0)
        .max_queue_depth(7)
        .max_tasks(9)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    let accepted = (0..20)
        .take_while(|_| lp.enqueue(1, Work::done()).is_ok())
        .count();
    lp.run_pending(PLENTY);
    let more = (0..20)
        .take_while(|_| lp.enqueue(1, Work::done()).is_ok())
        .count();
    assert_eq!((accepted, accepted + more), (7, 9));
}

/// L25: `max_running_per_connection`.
#[test]
fn at_most_the_allowed_number_of_tasks_of_a_connection_run() {
    for limit in 1..=3 {
        let pool = ThreadPool::builder()
            .threads(0)
            .max_running_per_connection(limit)
            .build()
            .unwrap();
        let mut lp = Loop::new(&pool);
        for _ in 0..5 {
            lp.enqueue(1, Work::parks()).unwrap();
        }
        lp.run_pending(PLENTY);
        assert_eq!((pool.counts().parked, pool.counts().queued), (limit, 5 - limit));
    }
}

/// L25: `time_slice`, the default of 10 ms included.
#[test]
fn a_time_slice_is_as_long_as_given() {
    let ten_ms = Duration::from_millis(10);
    for (slice, steps) in [
        (None, 10),
        (Some(ten_ms / 2), 5),
        (Some(Duration::ZERO), 1),
        (Some(Duration::MAX), 50),
    ] {
        let builder = ThreadPool::builder().threads(0);
        let (pool, hand) = util::manual(match slice {
            Some(slice) => builder.time_slice(slice),
            None => builder,
        });
        let mut lp = Loop::new(&pool);
        let slow = Work::new(move |_, step| {
            hand.advance(Duration::from_millis(1));
            if step == 50 {
                TaskReturn::TaskDone
            } else {
                TaskReturn::Continue
            }
        });
        let slow = lp.enqueue(1, slow).unwrap();
        let steps_before_other = Count::new();
        let seen = Arc::clone(&steps_before_other);
        let pool = Arc::new(pool);
        let counted = Arc::clone(&pool);
        lp.enqueue(
            2,
            Work::new(move |_, _| {
                seen.add(usize::try_from(counted.dump().counters.steps).unwrap());
                TaskReturn::TaskDone
            }),
        )
        .unwrap();
        lp.run_pending(PLENTY);
        assert_eq!(steps_before_other.get(), steps, "with a slice of {slice:?}");
        reap(&mut lp, slow).finished();
    }
}

/// L25: `on_thread_start` and `on_thread_stop`: once on each thread, before and after its work.
#[test]
fn the_hooks_run_on_every_thread_before_and_after_its_work() {
    let log = Log::new();
    let note = |what: &'static str| {
        let log = log.clone();
        move |n: usize| {
            let name = std::thread::current().name().map(str::to_owned);
            assert_eq!(name, Some(format!("hooked-{n}")));
            log.add((what, n));
        }
    };
    let builder = ThreadPool::builder().name("hooked").threads(2);
    let pool = builder
        .on_thread_start(note("start"))
        .on_thread_stop(note("stop"))
        .build()
        .unwrap();
    let work = note("work");
    ask_each_thread(&pool, move |cx| work(cx.worker().unwrap()));
    assert_eq!(log.len(), 4);
    drop(pool);
    for n in 0..2 {
        let own: Vec<_> = log
            .notes()
            .into_iter()
            .filter(|&(_, by)| by == n)
            .map(|(what, _)| what)
            .collect();
        assert_eq!(own, ["start", "work", "stop"]);
    }
}

/// Uses this many pages of stack.
fn deep(pages: usize) -> usize {
    let page = std::hint::black_box([pages as u8; 4096]);
    if pages == 0 {
        0
    } else {
        deep(pages - 1) + usize::from(page[pages % 4096] == pages as u8)
    }
}

/// L25: with `stack_size` a step can use 8 MiB. A smaller size than 64 KiB is raised to 64 KiB, as
/// the docs say.
#[test]
fn the_stack_is_as_large_as_asked() {
    for (asked, pages) in [(64 << 20, 2_000), (1, 2)] {
        let pool = ThreadPool::builder()
            .threads(1)
            .stack_size(asked)
            .build()
            .unwrap();
        let mut lp = Loop::new(&pool);
        lp.enqueue(
            1,
            Work::new(move |_, _| {
                assert_eq!(deep(pages), pages);
                TaskReturn::TaskDone
            }),
        )
        .unwrap();
        lp.end().finished();
    }
}

/// L25: `clock`. The uptime of the pool begins when it is built.
#[test]
fn a_pool_uses_the_given_clock() {
    let (clock, hand) = Clock::manual();
    assert_eq!(
        format!("{clock:?} {:?}", Clock::system()),
        "Clock::manual() Clock::system()"
    );
    hand.advance(Duration::from_secs(100));
    let pool = ThreadPool::builder()
        .threads(0)
        .clock(clock.clone())
        .build()
        .unwrap();
    assert_eq!(pool.dump().uptime_us, 0);
    hand.advance(Duration::from_secs(5));
    assert_eq!(pool.dump().uptime_us, 5_000_000);
    let younger = ThreadPool::builder().threads(0).clock(clock).build().unwrap();
    assert_eq!(younger.dump().uptime_us, 0);
    let real = ThreadPool::builder()
        .threads(0)
        .clock(Clock::default())
        .build()
        .unwrap();
    let before = real.dump().uptime_us;
    util::eventually("time passes", || real.dump().uptime_us > before);
}

/// L25: the options of a task, one by one.
#[test]
fn every_option_of_a_task_has_its_effect() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    let all = TaskOptions::new();
    let parks: Vec<_> = [
        all.clone(),
        all.clone().name("named"),
        all.clone().name(String::from("named at run time")),
        all.clone().sync_timeout(Duration::from_secs(1)),
        all.clone().deadline(Duration::from_secs(1)),
        all.clone().outlive_connection(),
    ]
    .into_iter()
    .map(|options| lp.enqueue_with(1, Work::parks_times(5), options).unwrap())
    .collect();
    lp.run_pending(PLENTY);
    let queued = lp
        .enqueue_with(1, Work::done(), all.queue_timeout(Duration::from_secs(1)))
        .unwrap();
    assert_eq!(lp.take_ready().count(), 6);
    let names: Vec<_> = pool.dump().tasks.into_iter().map(|task| task.name).collect();
    let names: Vec<_> = names.iter().map(Option::as_deref).collect();
    assert_eq!(
        names,
        [
            None,
            Some("named"),
            Some("named at run time"),
            None,
            None,
            None,
            None
        ]
    );
    hand.advance(Duration::from_secs(1));
    let _ = lp.take_ready().count();
    assert_eq!(lp.connection_closed(1), 7);
    lp.run_pending(PLENTY);
    let timed_out = StopReason::TimedOut;
    let closed = StopReason::ConnectionClosed;
    let reasons = [
        closed,
        closed,
        closed,
        timed_out(Timeout::Sync),
        timed_out(Timeout::Deadline),
    ];
    for (id, reason) in parks.iter().zip(reasons) {
        assert_eq!(reap(&mut lp, *id).stopped().0, reason);
    }
    assert_eq!(
        reap(&mut lp, parks[5]).finished().steps,
        6,
        "the task outlives its connection"
    );
    assert_eq!(reap(&mut lp, queued).stopped().0, timed_out(Timeout::Queue));
}

#[test]
fn an_invalid_option_is_named_in_the_error() {
    let zero = |builder: moored::ThreadPoolBuilder| match builder.build() {
        Err(BuildError::Zero(option)) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(zero(ThreadPool::builder().max_queue_depth(0)), "max_queue_depth");
    assert_eq!(zero(ThreadPool::builder().max_tasks(0)), "max_tasks");
    assert_eq!(
        zero(ThreadPool::builder().max_queued_per_connection(0)),
        "max_queued_per_connection"
    );
    assert_eq!(
        zero(ThreadPool::builder().max_running_per_connection(0)),
        "max_running_per_connection"
    );
    let many = ThreadPool::builder().threads(65_001).build().unwrap_err();
    assert!(matches!(many, BuildError::TooManyThreads(65_001)));
    let name = ThreadPool::builder().threads(1).name("a\0b").build().unwrap_err();
    assert!(matches!(name, BuildError::NameWithNul(_)));
    assert!(many.source().is_none(), "the error has no source");
    let said = [BuildError::Zero("max_tasks"), many, name].map(|error| error.to_string());
    for (said, word) in said.iter().zip(["`max_tasks`", "65001", "NUL"]) {
        assert!(said.contains(word), "{said}");
    }
}

/// S22, L24, U20: the operating system refuses the first thread.
#[test]
fn a_thread_that_cannot_be_started_is_an_error() {
    let started = Count::new();
    for bytes in [1 << 46, usize::MAX / 2, usize::MAX] {
        let hook = Arc::clone(&started);
        let builder = ThreadPool::builder()
            .threads(3)
            .stack_size(bytes)
            .on_thread_start(move |_| hook.add(1));
        let error = builder.build().unwrap_err();
        assert!(matches!(error, BuildError::Spawn { index: 0, .. }), "{error:?}");
        let (text, source) = (
            error.to_string(),
            error.source().expect("the system's error").to_string(),
        );
        assert!(
            text.contains("thread 0") && text.contains("`stack_size`"),
            "{text}"
        );
        assert!(
            !text.contains(&source),
            "the source would be printed twice: {text}"
        );
    }
    assert_eq!(started.get(), 0);
}

#[cfg(target_os = "linux")]
const CHILD: &str = "MOORED_TEST_WITH_LITTLE_ADDRESS_SPACE";

/// S22, L24: a later thread cannot be started, because there is no room for its stack. The threads
/// before it end before `build` returns the error. The test runs in a process of its own, which has
/// room for some threads.
#[test]
#[cfg(target_os = "linux")]
fn threads_that_were_started_before_a_failure_are_ended() {
    if std::env::var_os(CHILD).is_some() {
        return with_little_address_space();
    }
    if process::is_address_sanitized() {
        return; // the sanitizer itself needs more address space
    }
    let child = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -v 2000000; exec \"$0\" --exact threads_that_were_started_before_a_failure_are_ended",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[cfg(target_os = "linux")]
fn with_little_address_space() {
    let (started, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = |counter: &Arc<AtomicUsize>| {
        let counter = Arc::clone(counter);
        move |_| {
            counter.fetch_add(1, SeqCst);
        }
    };
    let built = ThreadPool::builder()
        .threads(100)
        .stack_size(100 << 20)
        .on_thread_start(count(&started))
        .on_thread_stop(count(&stopped))
        .build();
    match built {
        Err(BuildError::Spawn { index, .. }) => {
            assert!((1..100).contains(&index), "{index} threads were started");
            assert_eq!(
                (started.load(SeqCst), stopped.load(SeqCst)),
                (index, index),
                "a thread is left behind"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_builder_can_be_used_again_and_shown() {
    let builder = ThreadPool::builder().name("twice").threads(1).max_tasks(5);
    let (one, other) = (builder.clone().build().unwrap(), builder.clone().build().unwrap());
    for pool in [&one, &other] {
        let mut lp = Loop::new(pool);
        let id = lp.enqueue(1, Work::done()).unwrap();
        lp.news();
        assert_eq!(lp.peek(id), Some(Status::Finished));
    }
    one.join_timeout(PATIENCE).unwrap();
    assert_eq!(other.counts().threads, 1, "the pools are separate");
    let shown = format!("{builder:?}");
    assert!(
        shown.contains("twice") && shown.contains("max_tasks: 5"),
        "{shown}"
    );
}
