//! `/dump`, `/dump.json` and `/metrics`: the pool and the connections, for people and for programs.

use std::fmt::{Display, Write};

use moored::{PoolDump, ThreadPool};

use crate::http::{Request, Response, Route};
use crate::net::{Net, NetCounters};
use crate::query::Query;

/// Tasks that `/dump.json` lists without `limit`.
const DUMPED_TASKS: usize = 200;

/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `path` offers, if it is one of the three.
pub fn route(path: &str) -> Option<Route> {
    matches!(path, "/dump" | "/dump.json" | "/metrics").then(Route::get)
}

/// Answers a request for one of the three paths. None for other paths.
pub fn answer(request: &Request, pool: &ThreadPool, net: &Net) -> Option<Response> {
    answer_with(request, pool, &net.counters(), |_| {})
}

/// The same, with the counters of one loop or of several, and with what `add` adds to `/metrics`.
pub fn answer_with(
    request: &Request,
    pool: &ThreadPool,
    net: &NetCounters,
    add: impl FnOnce(&mut Metrics),
) -> Option<Response> {
    let answer = match request.path() {
        "/dump" => Response::new(200).body("text/plain; charset=utf-8", pool.dump().to_string()),
        "/dump.json" => {
            dump_json(request.query(), pool.dump()).unwrap_or_else(|why| Response::text(400, &why))
        }
        "/metrics" => {
            let mut text = metrics(&pool.dump(), net);
            add(&mut text);
            Response::new(200).body(METRICS_TYPE, text.0)
        }
        _ => return None,
    };
    Some(answer.header("Cache-Control", "no-store"))
}

fn dump_json(query: &str, mut dump: PoolDump) -> Result<Response, String> {
    let mut query = Query::new(query);
    let limit = query.take_number("limit", DUMPED_TASKS, 0..=usize::MAX)?;
    query.finish()?;
    dump.tasks.truncate(limit);
    let json = serde_json::to_vec(&dump).map_err(|error| error.to_string())?;
    Ok(Response::new(200).body("application/json", json))
}

fn metrics(dump: &PoolDump, net: &NetCounters) -> Metrics {
    let mut text = Metrics::default();
    let (counts, counters) = (&dump.counts, &dump.counters);
    text.gauge("threads", "Worker threads that are alive.", counts.threads);
    text.gauge(
        "uptime_seconds",
        "Seconds since the pool was built.",
        dump.uptime_us / 1_000_000,
    );
    let tasks = [
        ("queued", counts.queued),
        ("waiting", counts.waiting),
        ("on_worker", counts.on_worker),
        ("parked", counts.parked),
        ("ended", counts.ended),
    ];
    text.family("tasks", "gauge", "Tasks in each state.");
    text.samples("tasks", "state", &tasks);
    text.counter("tasks_accepted", "Tasks accepted.", counters.accepted);
    text.counter(
        "tasks_finished",
        "Tasks that ended with TaskDone.",
        counters.finished,
    );
    text.counter(
        "tasks_panicked",
        "Tasks that ended with a panic.",
        counters.panicked,
    );
    let (refused, stopped) = (&counters.refused, &counters.stopped);
    text.family("tasks_refused_total", "counter", "Tasks refused, by reason.");
    let refused = [
        ("queue_full", refused.queue_full),
        ("too_many_tasks", refused.too_many_tasks),
        ("connection_full", refused.connection_full),
        ("shutting_down", refused.shutting_down),
    ];
    text.samples("tasks_refused_total", "reason", &refused);
    text.family("tasks_stopped_total", "counter", "Tasks stopped, by reason.");
    let stopped = [
        ("returned", stopped.returned),
        ("dequeued", stopped.dequeued),
        ("connection_closed", stopped.connection_closed),
        ("queue_timeout", stopped.queue_timeout),
        ("sync_timeout", stopped.sync_timeout),
        ("deadline", stopped.deadline),
        ("pool_shutdown", stopped.pool_shutdown),
        ("service_dropped", stopped.service_dropped),
        ("shed", stopped.shed),
    ];
    text.samples("tasks_stopped_total", "reason", &stopped);
    text.counter("steps", "Steps run.", counters.steps);
    text.counter("syncs", "Times a task was parked.", counters.syncs);
    text.counter("loop_wakes", "Wake-ups of service loops.", counters.wakes);
    text.counter("worker_wakes", "Wake-ups of workers.", counters.worker_wakes);
    text.counter("steals", "Tasks stolen from other workers.", counters.steals);
    text.gauge("connections", "Connections that are open.", net.connections);
    text.gauge("websockets", "Connections that are WebSockets.", net.websockets);
    text.counter("connections_accepted", "Connections accepted.", net.accepted);
    text.counter("requests", "Requests that the app has got.", net.requests);
    text.family(
        "answers_total",
        "counter",
        "Answers of the app, by class of status.",
    );
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let answers: Vec<_> = classes.into_iter().zip(net.answers).collect();
    text.samples("answers_total", "class", &answers);
    text.counter(
        "message_bytes_copied",
        "Bytes of WebSocket messages that were copied.",
        net.copied_bytes,
    );
    text
}

/// Text in the format of Prometheus. Each name begins with `moored_`.
#[derive(Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.line(format_args!("moored_{name} {value}"));
    }

    /// A counter, whose name gets the ending `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        let name = format!("{name}_total");
        self.family(&name, "counter", help);
        self.line(format_args!("moored_{name} {value}"));
    }

    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP moored_{name} {help}"));
        self.line(format_args!("# TYPE moored_{name} {kind}"));
    }

    /// Samples of a family. No value of a label has a quote, a backslash or a line break.
    pub fn samples<N: Display>(&mut self, name: &str, label: &str, samples: &[(&str, N)]) {
        for (value, number) in samples {
            self.line(format_args!("moored_{name}{{{label}=\"{value}\"}} {number}"));
        }
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The rules of the format: a family has HELP and TYPE before its samples, and its name says
    /// whether it is a counter.
    #[test]
    fn metrics_follow_the_format_of_prometheus() {
        let pool = ThreadPool::builder().threads(2).build().expect("two threads");
        let text = metrics(&pool.dump(), &NetCounters::default()).0;
        let mut kinds = HashMap::new();
        let mut last_family = "";
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["#", "HELP", name, _, ..] => last_family = name,
                ["#", "TYPE", name, kind] => {
                    assert_eq!(name, last_family);
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                    assert!(kinds.insert(name, kind).is_none(), "{line}");
                }
                [sample, value] => {
                    let name = sample.split('{').next().expect("a name");
                    assert_eq!(name, last_family, "{line}");
                    assert!(name.starts_with("moored_") && kinds.contains_key(name), "{line}");
                    value.parse::<u64>().expect(line);
                }
                _ => panic!("neither a comment nor a sample: {line}"),
            }
        }
        assert!(text.contains("\nmoored_threads 2\n") && text.ends_with('\n'));
    }
}
