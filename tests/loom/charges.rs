//! A worker charges the turns of its last batch while the loop and another worker continue with the
//! tasks of the same connection: each turn is charged once.

use crate::util::{Event, FOREVER, end_race, explore};
use moored::{BoxTask, Clock, Shutdown, TaskReturn, TaskStatus, ThreadPool, task_fn};
use std::sync::Arc;
use std::time::Duration;

const STEP: Duration = Duration::from_millis(1);
/// The virtual time of a new pool.
const START: Duration = Duration::from_micros(20);

/// U2: the loop resumes a stream before its worker has charged the turn, and the other worker takes
/// it. The loop has counted that turn, so the late charge is void.
#[test]
fn a_charge_races_a_take_of_the_same_connection() {
    explore("charge against take", || {
        let (clock, hand) = Clock::manual();
        let (told, parked) = (Event::new(), Event::new());
        // The second worker starts when the stream has parked, because the race begins there.
        let gate = Arc::clone(&parked);
        let starts = move |worker| {
            if worker == 1 {
                gate.wait();
            }
        };
        let builder = ThreadPool::builder()
            .threads(2)
            .clock(clock)
            .on_thread_start(starts);
        let pool = builder.build().unwrap();
        let mut service = pool.service::<BoxTask>(Arc::clone(&told));
        let mut steps = 0;
        let stream = task_fn(move |_| {
            hand.advance(STEP);
            steps += 1;
            if steps == 1 {
                parked.happen();
                TaskReturn::Sync
            } else {
                TaskReturn::TaskDone
            }
        });
        let id = service.enqueue(1, stream).unwrap();
        while !service.is_empty() {
            told.wait();
            for ready in service.take_ready() {
                assert_eq!(ready.id, id);
                match service.task_status(id) {
                    Some(TaskStatus::Syncing(point)) => point.resume(),
                    Some(TaskStatus::Finished(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        end_race();
        pool.shutdown(Shutdown::Cancel);
        pool.join_timeout(FOREVER).unwrap();
        assert_eq!(moored::largest_finish_tag(&pool), START + 2 * STEP);
    });
}
