//! `multi_loop` in a process of its own: its loops, its queries, and its end.

#[path = "../../tests/util/server.rs"]
mod server;
mod util;

use std::io::{Read, Write};
use std::net::Shutdown;

use serde_json::Value;
use server::{Server, until};
use util::{Client, Database, KEYED, LONG, figures, interrupted, rows, running_tasks, start};

/// A query that never ends and makes no row.
const ENDLESS: &str =
    "/query?sql=WITH+RECURSIVE+c(n)+AS+(SELECT+1+UNION+ALL+SELECT+n%2B1+FROM+c)+SELECT+max(n)+FROM+c";

#[test]
fn every_callback_and_answer_is_on_the_loop_of_its_connection() {
    let database = Database::new("threads");
    let server = start(&database, &["--loops=3", "--part-bytes=1024"]);
    let mut seen = [0; 3];
    for _ in 0..9 {
        let mut client = Client::new(&server);
        let home = client.get("/ping").loop_number();
        seen[home] += 1;
        for path in [
            "/query?sql=SELECT+1",
            KEYED,
            "/slow?ms=1",
            "/move?to=0",
            "/move?to=2",
            "/broadcast",
            "/deadlock",
            "/query?sql=nonsense",
            "/loops.json",
            "/metrics",
            "/page.js",
            "/ping",
        ] {
            let answer = client.get(path);
            assert_eq!(answer.loop_number(), home, "{path}");
            if let Some(reports) = answer
                .json()
                .and_then(|json| Some(json.get("reports")?.to_owned()))
            {
                for report in reports.as_array().expect("a list") {
                    assert_eq!(report["thread"], format!("loop-{}", report["loop"]), "{report}");
                }
            }
        }
    }
    // Each loop checks the thread of every call; a panic would have ended the server.
    assert_eq!(seen, [3, 3, 3]);
}

#[test]
fn each_client_is_given_to_the_loop_with_the_fewest_connections() {
    let database = Database::new("fewest");
    let server = start(&database, &["--loops=3"]);
    let connections = |what: &str, counts: [u64; 3]| {
        until(what, || {
            let mut seen = figures(&server, "connections");
            seen.sort_unstable();
            // One of them belongs to the request for the figures.
            (seen == counts).then_some(())
        });
    };
    let mut clients: Vec<_> = (0..11).map(|_| Client::new(&server)).collect();
    connections("eleven clients and the request for the figures", [4, 4, 4]);
    clients.retain_mut(|client| client.get("/ping").loop_number() > 0);
    until(
        "loop 0 has at most the connection of the request for the figures",
        || (figures(&server, "connections")[0] <= 1).then_some(()),
    );
    while clients.len() < 11 {
        clients.push(Client::new(&server));
    }
    connections("eleven clients again", [4, 4, 4]);
}

#[test]
fn functions_run_in_other_loops_in_their_order() {
    const MOVES: usize = 30;
    let database = Database::new("order");
    let server = start(&database, &["--loops=3"]);
    let mut client = Client::new(&server);
    let requests = "GET /move?to=1 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(MOVES);
    client.send(&requests);
    let (mut run, mut sent) = (0, 0);
    for _ in 0..MOVES {
        let json = client.read().json().expect("JSON");
        let report = &json["reports"][0];
        assert_eq!(
            (&report["loop"], &report["thread"]),
            (&1.into(), &"loop-1".into())
        );
        let numbers = ["run", "sent"].map(|name| report[name].as_u64().expect("a number"));
        assert!(
            numbers[0] > run && numbers[1] > sent,
            "{report} after {run} and {sent}"
        );
        [run, sent] = numbers;
    }
    let answer = client.get("/broadcast");
    let json = answer.json().expect("JSON");
    let threads: Vec<_> = json["reports"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["thread"])
        .collect();
    assert_eq!(threads, ["loop-0", "loop-1", "loop-2"]);
    for (path, named) in [
        ("/move?to=3", "from 0 to 2"),
        ("/move?to=-1", "from 0 to 2"),
        ("/move?too=1", "too"),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains(named), "{path}: {}", answer.text());
    }
}

#[test]
fn a_wait_of_a_loop_for_itself_is_refused_and_the_loop_goes_on() {
    let database = Database::new("deadlock");
    let server = start(&database, &["--loops=1"]);
    let mut client = Client::new(&server);
    let answer = client.get("/deadlock");
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("would deadlock"), "{}", answer.text());
    assert_eq!(client.get("/ping").status, 200);
    assert!(
        client
            .get("/metrics")
            .text()
            .contains("\nmoored_refused_waits_total 1\n")
    );
}

#[test]
fn only_queries_are_allowed() {
    let database = Database::new("refused");
    let server = start(&database, &[]);
    let mut client = Client::new(&server);
    for (sql, named) in [
        ("DELETE+FROM+item", "only queries"),
        ("UPDATE+item+SET+value=1", "only queries"),
        ("CREATE+TEMP+TABLE+t(a)", "only queries"),
        ("PRAGMA+query_only=0", "only queries"),
        ("PRAGMA+hard_heap_limit=0", "only queries"),
        ("ATTACH+'other.db'+AS+other", "only queries"),
        ("VACUUM+INTO+'copy.db'", "only queries"),
        ("BEGIN", "only queries"),
        ("SELECT+load_extension('x')", "not authorized"),
        ("SELECT+1;+SELECT+2", "Multiple statements"),
        ("SELECT+colour", "no such column: colour"),
        ("SELECT+%3F1", "the only parameter"),
        // Functions that SQLite cannot interrupt get short values only.
        ("SELECT+zeroblob(20000)", "too big"),
        // A long pattern would overflow the stack of the worker.
        (
            "SELECT+'a'+LIKE+replace(hex(zeroblob(8000)),'00','%25a')",
            "too complex",
        ),
        (
            "SELECT+'a'+GLOB+replace(hex(zeroblob(8000)),'00','*a')",
            "too complex",
        ),
        ("", "sql is missing"),
        ("SELECT+1&limit=5", "not known"),
    ] {
        let answer = client.get(&format!("/query?sql={sql}"));
        assert_eq!(answer.status, 400, "{sql}: {}", answer.text());
        assert!(answer.text().contains(named), "{sql}: {}", answer.text());
    }
    let count = client.get("/query?sql=SELECT+count(*)+AS+n+FROM+item");
    assert_eq!(count.text(), format!("n\r\n{}\r\n", util::ROWS));
}

/// These errors are not the client's fault.
#[test]
fn a_locked_database_and_used_up_memory_are_answered_with_503() {
    let database = Database::new("locked");
    let server = start(&database, &[]);
    let mut client = Client::new(&server);
    let writer = rusqlite::Connection::open(database.path()).expect("a database");
    writer.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    let answer = client.get("/query?sql=SELECT+count(*)+FROM+item");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    drop(writer);
    // Sorting this many rows needs more than all queries may have.
    let answer = client.get("/query?sql=SELECT+a.note+FROM+item+a,item+b+ORDER+BY+b.name,a.name");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("memory"), "{}", answer.text());
    let answer = client.get("/query?sql=SELECT+count(*)+FROM+item");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_long_result_is_whole_with_a_key_and_without() {
    let database = Database::new("whole");
    let server = start(&database, &["--part-bytes=4096"]);
    let mut client = Client::new(&server);
    let keyed = client.get(KEYED);
    let skipped = client.get(LONG);
    assert_eq!(keyed.header("transfer-encoding"), Some("chunked"));
    assert!(
        keyed
            .header("content-type")
            .is_some_and(|it| it.starts_with("text/csv"))
    );
    assert!(keyed.text() == skipped.text(), "they differ");
    assert_eq!(rows(&keyed.text()), util::ROWS);
    // Only the rows after a given key.
    let end = client.get(&format!("{KEYED}&after={}", util::ROWS - 2));
    let text = end.text();
    assert!(text.starts_with("id,name,value,share,note\r\n"), "{text}");
    assert_eq!(rows(&text), 2, "{text}");
}

#[test]
fn a_client_that_leaves_interrupts_its_query_and_no_other() {
    let database = Database::new("leaves");
    let server = start(&database, &["--threads=1"]);
    for (number, path) in [(1, "/slow?ms=60000"), (2, ENDLESS)] {
        let mut client = Client::new(&server);
        client.ask(path);
        until("a worker has the query", || {
            (running_tasks(&server) == 1).then_some(())
        });
        drop(client);
        server.until_stopped(number);
        until("it was interrupted", || {
            (interrupted(&server) == number as u64).then_some(())
        });
    }
    // The same worker uses the same connection to the database.
    let answer = server.get("/query?sql=SELECT+7");
    assert_eq!((answer.status, &*answer.body), (200, "7\r\n7\r\n"));
    assert_eq!(interrupted(&server), 2);
}

/// A client that closes only its sending side gets its answer. If it leaves later, that is
/// detected.
#[test]
fn a_half_closed_client_gets_its_answer_until_it_leaves() {
    let database = Database::new("half");
    let server = start(&database, &["--threads=1"]);
    let mut client = Client::new(&server);
    client.ask("/slow?ms=200");
    client.stream().shutdown(Shutdown::Write).expect("half a close");
    assert_eq!(client.read().status, 200);
    let mut client = Client::new(&server);
    client.ask("/slow?ms=60000");
    client.stream().shutdown(Shutdown::Write).expect("half a close");
    until("a worker has the query", || {
        (running_tasks(&server) == 1).then_some(())
    });
    drop(client);
    server.until_stopped(1);
}

#[test]
fn a_query_that_makes_no_row_ends_with_504() {
    let database = Database::new("late");
    let server = start(&database, &["--query-timeout=1", "--threads=1"]);
    let mut client = Client::new(&server);
    assert_eq!(client.get(ENDLESS).status, 504);
    until("it was interrupted", || (interrupted(&server) == 1).then_some(()));
    assert_eq!(server.get("/query?sql=SELECT+7").status, 200);
}

#[test]
fn clients_that_read_nothing_hold_no_worker() {
    const READERS: usize = 200;
    let database = Database::with_rows("readers", 200_000);
    let server = start(&database, &["--threads=2"]);
    let mut readers: Vec<_> = (0..READERS).map(|_| Client::new(&server)).collect();
    for reader in &mut readers {
        reader.ask(KEYED);
    }
    server.until_parked_for_good(READERS);
    assert_eq!(server.get("/query?sql=SELECT+7").status, 200);
    // A parked task continues at its position.
    let whole = readers[0].read();
    assert_eq!(rows(&whole.text()), 200_000);
    drop(readers);
    server.until_stopped(READERS - 1);
}

#[test]
fn a_full_queue_is_answered_with_503() {
    let database = Database::new("full");
    let server = start(&database, &["--threads=1", "--max-queue-depth=1"]);
    let mut running = Client::new(&server);
    running.ask("/slow?ms=60000");
    until("a worker has the query", || {
        (running_tasks(&server) == 1).then_some(())
    });
    let mut queued = Client::new(&server);
    queued.ask("/query?sql=SELECT+7");
    until("one waits", || {
        (server.dump()["counts"]["queued"] == 1).then_some(())
    });
    let refused = server.get("/query?sql=SELECT+8");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    drop(running);
    assert_eq!(queued.read().text(), "7\r\n7\r\n");
}

/// U1: a client with many requests cannot fill the queue for the others, which other loops serve.
#[test]
fn a_request_whose_task_is_shed_is_answered_with_503() {
    let database = Database::new("shed");
    let server = start(&database, &["--threads=1", "--max-queue-depth=2"]);
    let mut flood = Client::new(&server);
    flood.ask("/slow?ms=1000");
    until("a worker has the query", || {
        (running_tasks(&server) == 1).then_some(())
    });
    flood.ask("/query?sql=SELECT+7");
    flood.ask("/query?sql=SELECT+8");
    until("two wait", || {
        (server.dump()["counts"]["queued"] == 2).then_some(())
    });
    assert_eq!(
        Client::new(&server).get("/query?sql=SELECT+9").text(),
        "9\r\n9\r\n"
    );
    assert_eq!(flood.read().status, 200);
    assert_eq!(flood.read().text(), "7\r\n7\r\n");
    let answer = flood.read();
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(server.counter("/stopped/shed"), 1);
}

/// All loops share one limit. A silent connection of any loop makes room. A new client waits
/// if no connection is silent.
#[test]
fn all_loops_have_one_limit_of_connections() {
    let database = Database::new("limit");
    let server = start(&database, &["--loops=2", "--threads=3", "--max-connections=3"]);
    let mut silent: Vec<_> = (0..3).map(|_| Client::new(&server)).collect();
    for client in &mut silent {
        assert_eq!(client.get("/ping").status, 200);
    }
    let mut busy: Vec<_> = (0..3).map(|_| Client::new(&server)).collect();
    for client in &mut busy {
        client.ask("/slow?ms=60000");
    }
    for client in &mut silent {
        let mut rest = Vec::new();
        client.stream().read_to_end(&mut rest).expect("the end");
        assert_eq!(rest, b"", "it was closed");
    }
    let mut late = Client::new(&server);
    late.send("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
    busy.pop();
    assert_eq!(late.read().status, 200);
}

#[test]
fn one_client_costs_about_one_silent_connection() {
    const LIMIT: usize = 16;
    let database = Database::new("room");
    let limit = format!("--max-connections={LIMIT}");
    let server = start(&database, &["--loops=8", &limit]);
    let mut silent: Vec<_> = (0..LIMIT).map(|_| Client::new(&server)).collect();
    for client in &mut silent {
        assert_eq!(client.get("/ping").status, 200);
    }
    assert_eq!(Client::new(&server).get("/ping").status, 200);
    silent.retain_mut(Client::is_served);
    // On a slow machine the acceptor asks a second time.
    assert!(silent.len() >= LIMIT - 3, "{} are left", silent.len());
}

/// Clients must not take the files that the workers need for the database.
#[test]
fn without_free_files_the_workers_still_have_the_database() {
    const WORKERS: usize = 4;
    let database = Database::new("worker_files");
    let threads = format!("--threads={WORKERS}");
    let options = [&*database.option(), "--rows=5", "--loops=2", &threads];
    let server = server::Server::start_limited("--nofile=40", "multi_loop", &options);
    let mut clients: Vec<_> = (0..100).map(|_| Client::new(&server)).collect();
    let newest = clients.last_mut().expect("one of them");
    newest.send(&"GET /slow?ms=100 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(WORKERS));
    for _ in 0..WORKERS {
        let answer = newest.read();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// The acceptor makes loops close silent connections.
#[test]
fn without_free_files_silent_clients_make_room() {
    let database = Database::new("files");
    let options = [&*database.option(), "--rows=5", "--loops=2", "--threads=1"];
    let server = server::Server::start_limited("--nofile=40", "multi_loop", &options);
    let mut clients: Vec<_> = (0..100).map(|_| Client::new(&server)).collect();
    let newest = clients.last_mut().expect("one of them");
    assert_eq!(newest.get("/ping").status, 200);
    let open: u64 = figures(&server, "connections").iter().sum();
    assert!(open < 40, "{open} connections");
}

#[test]
fn wrong_options_are_named() {
    for (option, named) in [
        ("--loops=0", "--loops"),
        ("--rows=0", "--rows"),
        ("--fast=yes", "--fast"),
        ("--part-bytes=1", "--part-bytes"),
        ("--database=", "--database"),
        ("--lops=2", "did you mean --loops"),
        ("--threads=0", "--threads"),
    ] {
        let program = std::process::Command::new(server::path_of("multi_loop"))
            .arg(option)
            .output();
        let output = program.expect("it is built");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{option}: {text}");
        assert!(text.contains(named), "{option}: {text}");
    }
}

#[test]
fn fast_runs_the_query_on_the_thread_of_the_loop() {
    let database = Database::new("fast");
    let server = start(&database, &["--loops=2", "--fast"]);
    for _ in 0..2 {
        let mut client = Client::new(&server);
        let answer = client.get("/slow?ms=1");
        let json = answer.json().expect("JSON");
        assert_eq!(json["thread"], format!("loop-{}", answer.loop_number()));
        assert_eq!(rows(&client.get(KEYED).text()), util::ROWS);
    }
}

#[test]
fn the_time_limit_holds_for_a_query_on_the_thread_of_the_loop() {
    let database = Database::new("fast_late");
    let server = start(&database, &["--loops=1", "--fast", "--query-timeout=1"]);
    let mut client = Client::new(&server);
    assert_eq!(client.get("/slow?ms=60000").status, 504);
    assert_eq!(client.get("/ping").status, 200);
}

/// A client whose long result is parked, since it does not read, and one that keeps a worker with
/// `query`.
fn long_and_slow(server: &Server, query: &str) -> (Client, Client) {
    let mut stream = Client::new(server);
    stream.ask(KEYED);
    server.until_parked_for_good(1);
    let mut slow = Client::new(server);
    slow.ask(query);
    until("a worker has the query", || {
        (running_tasks(server) == 1).then_some(())
    });
    (stream, slow)
}

#[test]
fn a_stop_sends_what_was_accepted() {
    let database = Database::with_rows("stop", 200_000);
    let mut server = start(&database, &["--threads=1", "--loops=2", "--grace=20"]);
    let (mut stream, mut slow) = long_and_slow(&server, "/slow?ms=300");
    let mut queued = Client::new(&server);
    queued.ask("/query?sql=SELECT+7");
    until("one waits", || {
        (server.dump()["counts"]["queued"] == 1).then_some(())
    });
    server.signal("TERM");
    assert_eq!(slow.read().status, 200);
    assert_eq!(queued.read().text(), "7\r\n7\r\n");
    assert_eq!(rows(&stream.read().text()), 200_000);
    drop((slow, queued, stream));
    assert!(server.wait().success());
}

#[test]
fn a_stop_cuts_what_takes_longer_than_the_grace() {
    let database = Database::with_rows("cut", 200_000);
    let mut server = start(&database, &["--threads=1", "--loops=2", "--grace=1"]);
    let (_stream, mut slow) = long_and_slow(&server, "/slow?ms=60000");
    server.signal("INT");
    assert_eq!(slow.read().status, 503);
    assert!(server.wait().success());
}

#[test]
fn a_database_is_made_once_and_a_foreign_file_is_left_alone() {
    let database = Database::new("once");
    drop(start(&database, &[]));
    let made = database.modified();
    drop(start(&database, &[]));
    assert_eq!(database.modified(), made);
    let server = start(&database, &["--rows=5"]);
    assert_eq!(
        server.get("/query?sql=SELECT+count(*)+FROM+item").body,
        "count(*)\r\n5\r\n"
    );
    drop(server);
    for foreign in [&b"something else"[..], &[b'x'; 5000]] {
        std::fs::write(database.path(), foreign).expect("a file");
        let output = std::process::Command::new(server::path_of("multi_loop"))
            .args(["--port=0", &database.option()])
            .output()
            .expect("it is built");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("--database"), "{text}");
        assert_eq!(std::fs::read(database.path()).expect("a file"), foreign);
    }
    assert!(database.has_no_leftovers());
}

#[test]
fn a_signal_stops_the_creation_of_the_database() {
    let database = Database::new("creation");
    let mut program = std::process::Command::new(server::path_of("multi_loop"))
        .args(["--port=0", "--rows=100000000", &database.option()])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it is built");
    until("it creates the file", || {
        (!database.has_no_leftovers()).then_some(())
    });
    let pid = program.id().to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.expect("kill").success());
    let mut status = None;
    until("it has ended", || {
        status = program.try_wait().expect("a child");
        status.is_some().then_some(())
    });
    assert!(status.expect("it has ended").success());
    assert!(database.has_no_leftovers() && !database.path().exists());
}

#[test]
fn a_database_that_cannot_be_created_is_an_error_that_says_what_to_do() {
    let database = Database::new("no_folder");
    let file = database.path().join("nothing").join("file.sqlite3");
    let output = std::process::Command::new(server::path_of("multi_loop"))
        .args(["--port=0", "--database", &file.to_string_lossy()])
        .output()
        .expect("it is built");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("cannot create") && text.contains("--database"),
        "{text}"
    );
}

#[test]
fn the_figures_of_the_loops_are_json_and_metrics() {
    let database = Database::new("figures");
    let server = start(&database, &["--loops=2"]);
    let delays = || {
        let json: Value = serde_json::from_str(&server.get("/loops.json").body).expect("JSON");
        let counts = json["loops"].as_array().expect("a list").iter();
        let counts: Vec<_> = counts.filter_map(|it| it["delay_ms"]["count"].as_u64()).collect();
        (counts.len() == 2 && counts.iter().all(|count| *count > 1)).then_some(())
    };
    until("both loops were measured", delays);
    let metrics = server.get("/metrics").body;
    for name in [
        "connections",
        "tasks",
        "notifications_total",
        "functions_total",
        "delay_p99_microseconds",
    ] {
        assert!(
            metrics.contains(&format!("\nmoored_loop_{name}{{loop=\"1\"}} ")),
            "{name}"
        );
    }
    let mut stream = server.connect();
    stream
        .write_all(b"POST /query HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .expect("sent");
    assert_eq!(server::read_answer(&mut stream).status, 405);
}
