//! What the workers run: a task that produces messages, and parks after each until it is sent.

use std::borrow::Cow;

use moored::{Context, Task, TaskReturn};

use crate::mandelbrot::Tile;
use crate::stream::Stream;

/// The subprotocol of the libwebsockets example that this example descends from.
pub const LWS_PROTOCOL: &str = "lws-minimal";

#[derive(Debug)]
pub struct Job {
    source: Source,
    /// The step fills it, and the loop sends it while the job is parked. The next step fills it
    /// again.
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
    /// The name of its task in dumps.
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

    /// The message to send before the job is resumed.
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
