//! What the workers run: a source of messages that waits after each until it has been sent.

use moored::{Context, Task, TaskReturn};

use crate::mandelbrot::Tile;
use crate::stream::Stream;

#[derive(Debug)]
pub struct Job {
    source: Source,
    /// Belongs to the worker during a step, and to the loop while the job is parked: it is
    /// sent from here, and used again for the next one.
    message: Vec<u8>,
}

#[derive(Debug)]
pub enum Source {
    Stream(Stream),
    Tile(Tile),
}

impl Job {
    pub fn new(source: Source) -> Self {
        Self {
            source,
            message: Vec::new(),
        }
    }

    /// What is to be sent before the job goes on.
    pub fn message(&self) -> &[u8] {
        &self.message
    }
}

impl Task for Job {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        if cx.is_stopping() {
            return TaskReturn::Stopped;
        }
        let more = match &mut self.source {
            Source::Stream(stream) => stream.write_next(&mut self.message),
            Source::Tile(tile) => tile.write_next(&mut self.message),
        };
        if more {
            TaskReturn::Sync
        } else {
            TaskReturn::TaskDone
        }
    }
}
