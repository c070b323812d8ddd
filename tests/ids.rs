//! Ids: an id means one task for ever, and an invalid id means none.

mod util;

use moored::{ConnId, Dequeued, Resume, Status, TaskId};
use std::collections::HashSet;
use util::{Loop, PLENTY, Work, pool, reap};

/// Calls every method that takes an id with an id that is unknown to the service.
#[track_caller]
fn is_unknown(lp: &mut Loop<Work>, id: TaskId) {
    assert!(lp.task_status(id).is_none());
    assert_eq!((lp.peek(id), lp.connection_of(id)), (None, None));
    assert_eq!(lp.dequeue(id), Dequeued::Unknown);
    assert!(!lp.task_sync(id, Resume::Continue) && !lp.task_sync(id, Resume::Stop));
    assert!(!lp.reattach(id, 1));
}

/// S11: the slot is used again thousands of times, and the old id never means one of the later
/// tasks.
#[test]
fn a_stale_id_never_means_another_task() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let stale = lp.enqueue(1, Work::done()).unwrap();
    lp.run_pending(PLENTY);
    reap(&mut lp, stale).finished();
    is_unknown(&mut lp, stale);
    let mut seen = HashSet::from([stale]);
    for _ in 0..5_000 {
        let id = lp.enqueue(1, Work::parks_times(1)).unwrap();
        assert!(seen.insert(id), "{id} was used before");
        lp.run_pending(PLENTY);
        is_unknown(&mut lp, stale);
        assert!(
            lp.task_sync(id, Resume::Continue),
            "the current task is unchanged"
        );
        lp.run_pending(PLENTY);
        reap(&mut lp, id).finished();
    }
}

/// S11: the completion of a task that was reaped does not change the next task in the slot.
#[test]
fn the_completion_of_a_reaped_task_does_not_affect_the_next_one() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    let first = lp.enqueue(1, Work::done()).unwrap();
    lp.run_pending(PLENTY);
    reap(&mut lp, first).finished(); // before `take_ready` announced its end
    let second = lp.enqueue(1, Work::done()).unwrap();
    assert!(lp.take_ready().is_empty(), "{second} has not run");
    lp.run_pending(PLENTY);
    assert_eq!(lp.ready(), [second]);
}

#[test]
fn an_id_of_another_service_is_unknown() {
    let pool = pool(0);
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let foreign: TaskId = other.enqueue(1, Work::done()).unwrap();
    let own = one.enqueue(1, Work::done()).unwrap();
    assert_ne!(own, foreign);
    is_unknown(&mut one, foreign);
    is_unknown(&mut other, own);
    let other_pool = util::pool(0);
    let mut elsewhere = Loop::new(&other_pool);
    elsewhere.enqueue(1, Work::done()).unwrap();
    is_unknown(&mut elsewhere, own);
}

/// S14: two services may use the same number for different clients.
#[test]
fn the_same_connection_number_on_two_services_is_two_connections() {
    let pool = pool(0);
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let own = one.enqueue(1, Work::parks()).unwrap();
    let foreign = other.enqueue(1, Work::parks()).unwrap();
    one.run_pending(PLENTY);
    assert_eq!(one.connection_closed(1), 1);
    assert_eq!((one.tasks_of(1), other.tasks_of(1)), (vec![], vec![foreign]));
    one.run_pending(PLENTY);
    reap(&mut one, own).stopped();
    assert_eq!(other.peek(foreign), Some(moored::Status::Syncing));
}

#[test]
fn ids_are_short_unique_and_ordered_by_age() {
    let pool = pool(0);
    let (mut one, mut other) = (Loop::new(&pool), Loop::new(&pool));
    let own: Vec<_> = (0..100).map(|_| one.enqueue(1, Work::done()).unwrap()).collect();
    let foreign: Vec<_> = (0..100)
        .map(|_| other.enqueue(1, Work::done()).unwrap())
        .collect();
    assert!(own.is_sorted());
    let texts: HashSet<_> = own.iter().chain(&foreign).map(ToString::to_string).collect();
    assert_eq!(texts.len(), 200);
    assert!(
        texts.iter().all(|text| text.len() < 12 && text.contains('.')),
        "{texts:?}"
    );
    assert_eq!(size_of::<TaskId>(), 16);
    assert_eq!(format!("{:>10}|{:<10}|", own[0], own[0]).len(), 22);
}

#[test]
fn a_connection_is_any_number_the_loop_chooses() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for conn in [0, 1, u64::from(u32::MAX), u64::MAX] {
        let id = lp.enqueue(conn, Work::done()).unwrap();
        assert_eq!(lp.connection_of(id), Some(ConnId(conn)));
        assert_eq!(lp.tasks_of(ConnId(conn)), [id]);
        assert_eq!(ConnId(conn).to_string(), conn.to_string());
    }
    assert_eq!(lp.run_pending(PLENTY), 4);
}

#[test]
fn an_id_is_parsed_from_its_text() {
    let pool = pool(0);
    let mut lp = Loop::new(&pool);
    for conn in 0..200 {
        let id = lp.enqueue(conn, Work::done()).unwrap();
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id), "{text}");
        assert_eq!(format!("{id:?}"), format!("TaskId({text})"));
        assert_eq!(lp.peek(text.parse().unwrap()), Some(Status::Queued));
    }
}

#[test]
fn other_texts_are_not_ids() {
    let bad = [
        "",
        ".",
        "..",
        "1",
        "1.2",
        "1.2.3.4",
        "1.2.3.",
        ".1.2.3",
        "1..3",
        "01.2.3",
        "1.02.3",
        "+1.2.3",
        "1.-2.3",
        "1.2.3 ",
        " 1.2.3",
        "1.2.x",
        "4294967296.1.1",
        "1.18446744073709551616.1",
        "1.1.4294967296",
        "１.2.3",
    ];
    for text in bad {
        let error = text.parse::<TaskId>().expect_err(text);
        assert!(error.to_string().contains("0.17.3"), "{error}");
    }
    let largest = format!("{}.{}.{}", u32::MAX, u64::MAX, u32::MAX);
    assert_eq!(largest.parse::<TaskId>().unwrap().to_string(), largest);
}

#[test]
fn a_connection_id_is_made_from_any_usual_number() {
    let ids = [
        ConnId::from(7),
        7_u32.into(),
        7_u64.into(),
        7_usize.into(),
        mio::Token(7).into(),
    ];
    assert_eq!(ids, [ConnId(7); 5]);
    assert_ne!(ConnId::from(-1), ConnId::from(1));
    assert_eq!(ConnId::from(u64::MAX), ConnId(u64::MAX));
}
