//! `dump` and `counts`: exact to the microsecond, as a value, as text and as JSON.

mod util;

use moored::{ConnId, Counts, EndReason, Status, TaskOptions, TaskReturn, ThreadPool, Timeout};
use std::sync::Arc;
use std::time::Duration;
use util::{Gate, Loop, PLENTY, Work, panic_silently, pool, reap, resume};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// L26: a task waits 10 ms, runs 20 ms, is parked 30 ms, and ends. After the end its times do not
/// change.
#[test]
fn the_times_of_a_task_add_up() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    let step_hand = hand.clone();
    let work = Work::new(move |_, step| {
        step_hand.advance(ms(20));
        if step == 1 {
            TaskReturn::Sync
        } else {
            TaskReturn::TaskDone
        }
    });
    let id = lp
        .enqueue_with(7, work, TaskOptions::new().name("timed"))
        .unwrap();
    hand.advance(ms(10));
    let look = |pool: &ThreadPool| pool.dump().tasks.remove(0);
    let task = look(&pool);
    assert_eq!(
        (task.id, task.name.as_deref(), task.connection),
        (id, Some("timed"), Some(ConnId(7)))
    );
    assert_eq!(
        (task.status, task.in_status_us, task.alive_us, task.queued_us),
        (Status::Queued, 10_000, 10_000, 10_000)
    );
    lp.run_pending(PLENTY);
    hand.advance(ms(30));
    let task = look(&pool);
    assert_eq!(
        (task.status, task.in_status_us, task.alive_us, task.queued_us),
        (Status::Syncing, 30_000, 60_000, 10_000)
    );
    assert!(
        (task.run_percent - 100.0 / 3.0).abs() < 0.01 && (task.sync_percent - 50.0).abs() < 0.01,
        "{task:?}"
    );
    resume(&mut lp, id);
    hand.advance(ms(20));
    let task = look(&pool);
    assert_eq!(
        (task.status, task.in_status_us, task.alive_us, task.queued_us),
        (Status::Running, 20_000, 80_000, 30_000)
    );
    lp.run_pending(PLENTY);
    lp.connection_closed(7);
    hand.advance(ms(1_000));
    let task = look(&pool);
    assert_eq!(
        (task.status, task.in_status_us, task.alive_us),
        (Status::Finished, 1_000_000, 100_000)
    );
    assert_eq!((task.connection, task.worker), (None, None));
    assert!(
        (task.run_percent - 40.0).abs() < 0.01 && (task.sync_percent - 30.0).abs() < 0.01,
        "{task:?}"
    );
    reap(&mut lp, id).finished();
    assert!(pool.dump().tasks.is_empty());
}

#[test]
fn a_running_task_is_shown_on_its_worker() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(2));
    let mut lp = Loop::new(&pool);
    let gate = lp.occupy(2);
    hand.advance(ms(5));
    let dump = pool.dump();
    let mut workers: Vec<_> = dump.tasks.iter().map(|task| task.worker).collect();
    workers.sort_unstable();
    assert_eq!(workers, [Some(0), Some(1)]);
    assert!(
        dump.tasks
            .iter()
            .all(|task| task.status == Status::Running && task.in_status_us == 5_000)
    );
    gate.open();
    lp.ends(2);
}

/// "2 threads, running 14" hides that 12 of the tasks wait.
#[test]
fn tasks_on_a_worker_are_distinguished_from_waiting_tasks() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    let gate = Gate::guarded();
    for conn in 0..3 {
        lp.enqueue(conn, Work::parks()).unwrap();
    }
    let parked = lp.parked(3);
    for conn in 3..5 {
        lp.enqueue(conn, Work::at(&gate)).unwrap();
    }
    gate.wait_for(2);
    // One started task waits for its next turn, and four tasks wait for their first.
    resume(&mut lp, parked[0]);
    for conn in 5..9 {
        lp.enqueue(conn, Work::done()).unwrap();
    }
    let dump = pool.dump();
    assert_eq!(places(&dump.counts), [4, 1, 2, 2, 0]);
    assert_eq!(places(&pool.counts()), [4, 1, 2, 2, 0]);
    assert_eq!(dump.counts.running(), 3);
    let text = dump.to_string();
    assert!(
        text.contains("\ntasks     queued 4  waiting 1  on a worker 2  parked 2  ended 0\n"),
        "{text}"
    );
    gate.open();
    lp.ends(6);
}

/// A task whose step runs on the loop's thread is on no worker. A parked task is on no worker,
/// either.
#[test]
fn a_task_that_is_on_no_worker_is_shown_on_none() {
    for threads in [0, 1] {
        let pool = Arc::new(pool(threads));
        let mut lp = Loop::new(&pool);
        let own = Arc::clone(&pool);
        let work = Work::new(move |cx, _| {
            let task = own.dump().tasks.remove(0);
            assert_eq!(
                (task.status, task.worker.map(usize::from)),
                (Status::Running, cx.worker())
            );
            TaskReturn::Sync
        });
        lp.enqueue(1, work).unwrap();
        lp.run_pending(PLENTY);
        lp.parked(1);
        let task = pool.dump().tasks.remove(0);
        assert_eq!((task.status, task.worker), (Status::Syncing, None));
        lp.connection_closed(1);
        lp.run_pending(PLENTY);
        lp.end().stopped();
    }
}

/// The number of tasks in each state.
fn places(counts: &Counts) -> [usize; 5] {
    [
        counts.queued,
        counts.waiting,
        counts.on_worker,
        counts.parked,
        counts.ended,
    ]
}

/// One task in each state: the counts of the dump, its counters and the counts of the pool agree.
#[test]
fn every_task_is_counted_in_its_state() {
    let pool = ThreadPool::builder()
        .threads(0)
        .max_queue_depth(10)
        .max_tasks(20)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    let parked = lp.enqueue(1, Work::parks()).unwrap();
    let stopping = lp.enqueue(2, Work::parks()).unwrap();
    let running = lp.enqueue(3, Work::parks()).unwrap();
    lp.enqueue(4, Work::done()).unwrap();
    lp.enqueue(5, Work::new(|_, _| TaskReturn::Stopped)).unwrap();
    lp.enqueue(6, Work::new(|_, _| panic_silently())).unwrap();
    lp.run_pending(PLENTY);
    lp.dequeue(stopping);
    resume(&mut lp, running);
    for _ in 0..10 {
        lp.enqueue(7, Work::done()).unwrap();
    }
    assert!(lp.enqueue(7, Work::done()).is_err());
    let cancelled = lp.tasks_of(7)[3];
    lp.dequeue(cancelled);
    let dump = pool.dump();
    let statuses =
        "\nstatus    queued 9  running 1  syncing 1  stopping 1  finished 1  stopped 2  panicked 1\n";
    assert!(dump.to_string().contains(statuses), "{dump}");
    // Running and stopping tasks wait for a thread, and this pool has none.
    assert_eq!(places(&dump.counts), [9, 2, 0, 1, 4]);
    assert_eq!(dump.counts, pool.counts());
    assert_eq!(dump.counts.threads, 0);
    let counters = dump.counters;
    assert_eq!(
        [
            counters.accepted,
            counters.finished,
            counters.stopped.total(),
            counters.panicked
        ],
        [16, 1, 2, 1]
    );
    assert_eq!(
        [
            counters.stopped.returned,
            counters.stopped.dequeued,
            counters.refused.queue_full
        ],
        [1, 1, 1]
    );
    assert_eq!([counters.steps, counters.syncs], [6, 3]);
    assert_eq!(lp.peek(parked), Some(Status::Syncing), "a dump reaps nothing");
    assert_eq!(dump.tasks.len(), lp.len());
}

#[test]
fn the_counters_of_a_dropped_service_are_kept() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for conn in 0..10 {
        lp.enqueue(conn, Work::parks_times(1)).unwrap();
    }
    lp.run_pending(PLENTY);
    let before = pool.dump().counters;
    drop(lp);
    let mut last = Loop::<Work>::new(&pool);
    last.run_pending(PLENTY);
    let after = pool.dump();
    assert_eq!(
        (after.counters.accepted, after.counters.syncs),
        (10, before.syncs)
    );
    assert_eq!(
        (after.counters.steps, after.counters.stopped.service_dropped),
        (20, 10)
    );
    assert_eq!([places(&after.counts), places(&pool.counts())], [[0; 5]; 2]);
}

/// L16: every cell of the table starts below its heading, for all names and numbers.
#[test]
fn the_columns_of_the_text_are_aligned() {
    let pool = ThreadPool::builder().name("table").threads(0).build().unwrap();
    let mut lp = Loop::new(&pool);
    let names = [
        "",
        "tile 3,4",
        "twenty characters ok",
        "a name that is longer than its column",
        "Zürich\n→ Genève",
    ];
    for (name, conn) in names
        .into_iter()
        .zip([0, 7, u64::from(u32::MAX), u64::MAX, 1 << 40])
    {
        lp.enqueue_with(conn, Work::parks(), TaskOptions::new().name(name))
            .unwrap();
    }
    lp.run_pending(PLENTY);
    lp.enqueue(1, Work::done()).unwrap();
    let dump = pool.dump();
    let text = dump.to_string();
    let table: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("id "))
        .collect();
    assert_eq!(table.len(), 1 + 6, "{text}");
    for line in &table {
        assert_eq!(line.chars().count(), table[0].chars().count(), "\n{text}");
    }
    for (line, task) in table[1..].iter().zip(&dump.tasks) {
        assert!(
            line.contains(&task.id.to_string()) && line.contains(&task.status.to_string()),
            "{line}"
        );
    }
    assert!(text.starts_with("pool \"table\": 0 threads, up "), "{text}");
    for part in ["queued 1", "syncing 5", "accepted 6", "queue full 0", "steps 5"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn the_text_of_a_pool_with_one_thread_says_one_thread() {
    let pool = ThreadPool::builder().name("one").threads(1).build().unwrap();
    let text = pool.dump().to_string();
    assert!(text.starts_with("pool \"one\": 1 thread, up "), "{text}");
}

/// Names often contain input of clients: a name must not begin a new line or reverse the text.
#[test]
fn a_name_cannot_break_the_layout_of_the_text() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let disturbing = ('\u{0}'..='\u{1f}')
        .chain('\u{7f}'..='\u{9f}') // control characters
        .chain(['\u{2028}', '\u{2029}']) // line and paragraph separators
        .chain(['\u{61c}', '\u{200e}', '\u{200f}']) // marks of direction
        .chain(('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}')) // embeddings, overrides, isolates
        .chain(['\u{ad}', '\u{200b}', '\u{2060}', '\u{feff}', '\u{e0041}']); // invisible
    for c in disturbing {
        let name = TaskOptions::new().name(format!("<{c}>"));
        let id = lp.enqueue_with(1, Work::done(), name).unwrap();
        let dump = pool.dump();
        assert_eq!(
            dump.tasks[0].name.as_deref(),
            Some(format!("<{c}>").as_str()),
            "the value is unchanged"
        );
        let text = dump.to_string();
        assert!(
            text.contains("<?>") && !text.contains(&format!("<{c}>")),
            "{c:?} in {text:?}"
        );
        lp.dequeue(id);
        reap(&mut lp, id);
    }
    // Accents and right-to-left text are not changed.
    for name in ["Gene\u{300}ve", "שלום", "नमस्ते"] {
        let id = lp
            .enqueue_with(1, Work::done(), TaskOptions::new().name(name))
            .unwrap();
        assert!(pool.dump().to_string().contains(name));
        lp.dequeue(id);
        reap(&mut lp, id);
    }
}

/// The columns of a text's table, after its head.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .skip_while(|line| !line.trim_start().starts_with("id "))
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect()
}

/// Each number is below its own heading.
#[test]
fn the_text_contains_every_counter() {
    let pool = ThreadPool::builder()
        .threads(0)
        .max_queue_depth(9)
        .build()
        .unwrap();
    let mut lp = Loop::new(&pool);
    for _ in 0..4 {
        lp.enqueue(1, Work::new(|_, _| TaskReturn::Stopped)).unwrap();
    }
    for _ in 0..3 {
        lp.enqueue(2, Work::new(|_, _| panic_silently())).unwrap();
    }
    lp.enqueue(3, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    for _ in 0..9 {
        lp.enqueue(4, Work::done()).unwrap();
    }
    for _ in 0..5 {
        assert!(lp.enqueue(4, Work::done()).is_err());
    }
    lp.connection_closed(4);
    let text = pool.dump().to_string();
    let head: Vec<&str> = text.lines().take(7).skip(1).collect();
    assert_eq!(
        head[..5],
        [
            "tasks     queued 0  waiting 0  on a worker 0  parked 1  ended 16",
            "status    queued 0  running 0  syncing 1  stopping 0  finished 0  stopped 13  panicked 3",
            "since start  accepted 17  finished 0  stopped 13  panicked 3",
            "refused   queue full 5  too many tasks 0  connection full 0  shutting down 0",
            "stopped   stopped by itself 4  dequeued 0  connection closed 9  queue timeout 0  \
             sync timeout 0  deadline 0  pool shutdown 0  service dropped 0  shed 0",
        ]
    );
    assert!(
        head[5].starts_with("work      steps 8  syncs 1  wakes 1  "),
        "{text}"
    );
}

/// A time has at most four digits.
#[test]
fn the_text_gives_a_time_in_the_unit_that_fits() {
    let us = Duration::from_micros;
    for (time, shown) in [
        (us(0), ["0", "us"]),
        (us(9_999), ["9999", "us"]),
        (us(10_000), ["10", "ms"]),
        (us(9_999_999), ["9999", "ms"]),
        (us(10_000_000), ["10", "s"]),
        (us(35_999_999_999), ["35999", "s"]),
        (us(36_000_000_000), ["10", "h"]),
    ] {
        let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
        let mut lp = Loop::new(&pool);
        lp.enqueue(1, Work::done()).unwrap();
        hand.advance(time);
        let text = pool.dump().to_string();
        assert!(
            text.lines()
                .next()
                .unwrap()
                .ends_with(&format!("up {}", shown.join(" "))),
            "{text}"
        );
        let row = rows(&text).remove(0);
        // The columns after id, name, connection and status: time in this status, age, waiting.
        assert_eq!(row[4..10], shown.repeat(3), "{text}");
    }
}

/// L16: a name is cut to 32 characters and aligned left. Numbers are aligned right.
#[test]
fn the_text_cuts_a_long_name_and_shows_what_is_missing() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    for length in [31, 32, 33] {
        let name: String = "0123456789".chars().cycle().take(length).collect();
        lp.enqueue_with(7, Work::parks(), TaskOptions::new().name(name))
            .unwrap();
    }
    lp.enqueue(1_u64 << 40, Work::parks()).unwrap();
    lp.run_pending(PLENTY);
    hand.advance(ms(1));
    let text = pool.dump().to_string();
    let names: Vec<&str> = rows(&text).iter().map(|row| row[1]).collect();
    let (of_31, of_32) = (
        "0123456789012345678901234567890",
        "01234567890123456789012345678901",
    );
    assert_eq!(names, [of_31, of_32, &format!("{of_31}…"), "-"], "{text}");
    let last: Vec<_> = rows(&text).remove(3);
    assert_eq!(
        last[2..],
        [
            "1099511627776",
            "syncing",
            "1000",
            "us",
            "1000",
            "us",
            "0",
            "us",
            "-",
            "0.0",
            "100.0"
        ]
    );
    let line = text.lines().last().unwrap();
    assert!(
        line.contains(&format!("  -{}  1099511627776  syncing  ", " ".repeat(31))),
        "{text}"
    );
    let first = text.lines().rev().nth(3).unwrap();
    assert!(
        first.contains(&format!("  {of_31}   {}7  syncing  ", " ".repeat(12))),
        "{text}"
    );
}

#[test]
fn the_text_can_be_limited_to_some_tasks() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for conn in 0..100 {
        lp.enqueue(conn, Work::done()).unwrap();
    }
    let dump = pool.dump();
    let lines = |text: String| text.lines().count();
    assert_eq!(
        lines(dump.to_string()),
        lines(format!("{dump:.0}")) + 100,
        "the line about the omitted tasks has the width of the table"
    );
    let cut = format!("{dump:.10}");
    assert!(cut.ends_with("... and 90 more\n"), "{cut}");
    assert_eq!(lines(cut), lines(format!("{dump:.0}")) + 11);
}

#[test]
fn the_dump_is_json_with_serde() {
    let (pool, hand) = util::manual(ThreadPool::builder().name("json").threads(0));
    let mut lp = Loop::new(&pool);
    let id = lp
        .enqueue_with(
            7,
            Work::parks(),
            TaskOptions::new().name("tile").outlive_connection(),
        )
        .unwrap();
    lp.run_pending(PLENTY);
    hand.advance(ms(3));
    let plain = lp.enqueue(8, Work::done()).unwrap();
    lp.connection_closed(8);
    let json = serde_json::to_value(pool.dump()).unwrap();
    assert_eq!(
        (&json["pool"], &json["uptime_us"], &json["counts"]["threads"]),
        (&"json".into(), &3_000.into(), &0.into())
    );
    let places = [
        ("queued", 0),
        ("waiting", 0),
        ("on_worker", 0),
        ("parked", 1),
        ("ended", 1),
    ];
    for (place, tasks) in places {
        assert_eq!(json["counts"][place], tasks, "{place}");
    }
    assert_eq!(
        (
            &json["counters"]["accepted"],
            &json["counters"]["stopped"]["connection_closed"]
        ),
        (&2.into(), &1.into())
    );
    assert_eq!(json["counters"]["refused"]["too_many_tasks"], 0);
    let task = &json["tasks"][0];
    assert_eq!(
        (&task["id"], &task["name"]),
        (&id.to_string().into(), &"tile".into())
    );
    assert_eq!(
        (&task["connection"], &task["status"]),
        (&7.into(), &"syncing".into())
    );
    assert_eq!(
        (&task["in_status_us"], &task["alive_us"], &task["queued_us"]),
        (&3_000.into(), &3_000.into(), &0.into())
    );
    assert_eq!(
        (&task["sync_percent"], &task["worker"]),
        (&100.0.into(), &serde_json::Value::Null)
    );
    let task = &json["tasks"][1];
    assert_eq!(
        (&task["id"], &task["status"]),
        (&plain.to_string().into(), &"stopped".into())
    );
    assert!(task["name"].is_null() && task["connection"].is_null());
}

/// The number of syncs is kept modulo 16. The 16th sync once set the bit that means "the connection
/// has closed".
#[test]
fn a_task_that_parks_often_keeps_its_connection() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let id = lp.enqueue(7, Work::parks()).unwrap();
    for syncs in 1..=40 {
        lp.run_pending(PLENTY);
        assert_eq!(lp.news(), [id]);
        let task = pool.dump().tasks.remove(0);
        assert_eq!(task.connection, Some(ConnId(7)), "after {syncs} syncs");
        resume(&mut lp, id);
    }
}

/// U15: after a task was reaped, no dump showed which task of which client had panicked, and why.
#[test]
fn the_dump_keeps_the_last_abnormal_ends() {
    let (pool, hand) = util::manual(ThreadPool::builder().threads(0));
    let mut lp = Loop::new(&pool);
    hand.advance(ms(1));
    let later = hand.clone();
    let panics = Work::new(move |_, _| {
        later.advance(ms(20));
        std::panic::resume_unwind(Box::new("no such\nrow: 17".to_owned()))
    });
    let options = || TaskOptions::new().name("query");
    let panics = lp.enqueue_with(7, panics, options()).unwrap();
    hand.advance(ms(10));
    lp.run_pending(PLENTY);
    let _ = lp.news();
    lp.connection_closed(7);
    reap(&mut lp, panics).panicked();
    let never_runs = lp
        .enqueue_with(8, Work::done(), options().queue_timeout(ms(2)))
        .unwrap();
    hand.advance(ms(5));
    assert_eq!(lp.news(), [never_runs]);
    let late = lp.enqueue_with(9, Work::parks(), TaskOptions::new().deadline(ms(3)));
    let fine = lp.enqueue(9, Work::done()).unwrap();
    lp.run_pending(PLENTY);
    hand.advance(ms(4));
    let _ = lp.take_ready().count();
    lp.run_pending(PLENTY);
    reap(&mut lp, fine).finished();
    drop(lp);

    let dump = pool.dump();
    let times = |index: usize| {
        let end = &dump.abnormal_ends[index];
        (end.at_us, end.alive_us, end.queued_us, end.run_us)
    };
    let what = |index: usize| {
        let end = &dump.abnormal_ends[index];
        let (name, message) = (end.name.as_deref(), end.message.as_deref());
        (end.id, end.connection, end.reason, name, message)
    };
    let timed_out = EndReason::TimedOut;
    let message = Some("no such\nrow: 17");
    let [conn7, conn8, conn9] = [7, 8, 9].map(ConnId);
    assert_eq!(dump.abnormal_ends.len(), 3);
    assert_eq!(
        what(0),
        (panics, conn7, EndReason::Panicked, Some("query"), message)
    );
    assert_eq!(times(0), (31_000, 30_000, 10_000, 20_000));
    let reason = timed_out(Timeout::Queue);
    assert_eq!(what(1), (never_runs, conn8, reason, Some("query"), None));
    assert_eq!(times(1), (36_000, 5_000, 5_000, 0));
    let reason = timed_out(Timeout::Deadline);
    assert_eq!(what(2), (late.unwrap(), conn9, reason, None, None));
    assert_eq!(times(2), (40_000, 4_000, 0, 0));

    let text = dump.to_string();
    let line = format!(
        "ended     panicked  9000 us ago  id {panics}  name query  connection 7  alive 30 ms  queued 10 ms  \
         run 20 ms  message no such?row: 17\n"
    );
    assert!(text.contains(&line), "{text}");
    assert!(text.contains("\nended     queue timeout  4000 us ago"), "{text}");
    assert!(format!("{dump:?}").contains("no such\\nrow: 17"), "{dump:?}");
    let json = serde_json::to_value(&dump).unwrap();
    let end = &json["abnormal_ends"][0];
    assert_eq!(
        [&end["name"], &end["reason"], &end["message"]],
        ["query", "panicked", "no such\nrow: 17"]
    );
    assert_eq!((&end["connection"], &end["run_us"]), (&7.into(), &20_000.into()));
    assert_eq!(json["abnormal_ends"][2]["reason"], "deadline");
}

/// U15: the list and each message have a largest length.
#[test]
fn the_list_of_abnormal_ends_is_bounded() {
    let pool = pool(2);
    let mut lp = Loop::new(&pool);
    for n in 0..100 {
        let panics = Work::new(move |_, _| std::panic::resume_unwind(Box::new("x".repeat(5000))));
        lp.enqueue(n, panics).unwrap();
    }
    lp.ends(100);
    let ends = pool.dump().abnormal_ends;
    assert_eq!(ends.len(), 32);
    for end in ends {
        assert_eq!(end.message.map(|message| message.len()), Some(1000));
    }
}
