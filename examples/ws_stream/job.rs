//! What the workers run: a source of messages that waits after each until it has been sent.

use std::borrow::Cow;

use moored::{Context, Task, TaskReturn};

use crate::mandelbrot::Tile;
use crate::stream::Stream;

/// The subprotocol of the libwebsockets example this one has grown from.
pub const LWS_PROTOCOL: &str = "lws-minimal";

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
    /// For a client of the libwebsockets example.
    Lws(Stream),
    Tile(Tile),
}

impl Source {
    /// What dumps call its task.
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Stream(_) => "stream".into(),
            Self::Lws(_) => LWS_PROTOCOL.into(),
            // As the page counts them: from 1.
            Self::Tile(tile) => format!("tile {}/{}", tile.index() + 1, tile.of()).into(),
        }
    }
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
            Source::Stream(stream) | Source::Lws(stream) => stream.write_next(&mut self.message),
            Source::Tile(tile) => tile.write_next(&mut self.message),
        };
        if more {
            TaskReturn::Sync
        } else {
            TaskReturn::TaskDone
        }
    }
}
