//! The files of the page, `/loops.json`, and the figures of the loops in `/metrics`.

use std::sync::atomic::Ordering;

use examples::http::{Request, Response, Route};
use examples::monitor::{self, Metrics};
use serde_json::{Value, json};

use crate::figures::Figures;
use crate::loop_state::LoopState;
use crate::shared::Shared;

/// The route of a report or of a file of the page.
pub fn route(state: &LoopState, path: &str) -> Option<Route> {
    match path {
        "/loops.json" => Some(Route::get()),
        _ => state.shared.page.route(path).or_else(|| monitor::route(path)),
    }
}

/// Answers with a report or a file of the page. `None` for other paths.
pub fn answer(state: &LoopState, request: &Request) -> Option<Response> {
    let shared = &state.shared;
    if request.path() == "/loops.json" {
        let body = format!("{}\n", loops(shared));
        let answer = Response::new(200).body("application/json", body);
        return Some(answer.header("Cache-Control", "no-store"));
    }
    let add = |text: &mut Metrics| add_metrics(shared, text);
    monitor::answer_with(request, &state.pool, &shared.net_counters.total(), add)
        .or_else(|| shared.page.answer(request))
}

fn loops(shared: &Shared) -> Value {
    let counters = &shared.context.counters;
    let figures = shared.figures.iter().enumerate();
    json!({
        "fast": shared.is_fast,
        "interrupted": counters.interrupted.load(Ordering::Relaxed),
        "parts": counters.parts.load(Ordering::Relaxed),
        "refused_waits": counters.refused_waits.load(Ordering::Relaxed),
        "loops": figures.map(|(number, figures)| figures.to_json(number)).collect::<Vec<_>>(),
    })
}

fn add_metrics(shared: &Shared, text: &mut Metrics) {
    let counters = &shared.context.counters;
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    text.counter(
        "queries_interrupted",
        "Queries that were interrupted because the client had left or the time limit was reached.",
        of(&counters.interrupted),
    );
    text.counter(
        "result_parts",
        "Parts of long results that were sent.",
        of(&counters.parts),
    );
    text.counter(
        "refused_waits",
        "Waits of a loop for itself that were refused.",
        of(&counters.refused_waits),
    );
    let mut family = |name: &str, kind: &str, help: &str, read: &dyn Fn(&Figures) -> u64| {
        let names: Vec<_> = (0..shared.loops()).map(|number| number.to_string()).collect();
        let samples: Vec<_> = names
            .iter()
            .map(String::as_str)
            .zip(shared.figures.iter().map(read))
            .collect();
        text.family(name, kind, help);
        text.samples(name, "loop", &samples);
    };
    family(
        "loop_connections",
        "gauge",
        "Connections of each loop.",
        &|loop_figures| loop_figures.connections.load(Ordering::Relaxed) as u64,
    );
    family(
        "loop_tasks",
        "gauge",
        "Tasks of each loop that have not ended.",
        &|loop_figures| loop_figures.tasks.load(Ordering::Relaxed) as u64,
    );
    family(
        "loop_notifications_total",
        "counter",
        "How often workers and other threads have woken each loop.",
        &|loop_figures| of(&loop_figures.notifications),
    );
    family(
        "loop_functions_total",
        "counter",
        "Functions that each loop has run.",
        &|loop_figures| of(&loop_figures.functions),
    );
    family(
        "loop_delay_p99_microseconds",
        "gauge",
        "99th percentile of the time that a function waits until the loop runs it.",
        &|loop_figures| (loop_figures.delay().p99 * 1000.0) as u64,
    );
}
