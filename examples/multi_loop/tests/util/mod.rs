//! Clients of `multi_loop`, and databases for it.

#![allow(
    unreachable_pub,
    reason = "the items are for the tests that include this file"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::server::Server;

/// Rows of most databases here.
pub const ROWS: usize = 5000;
/// Queries for the whole table: the first is continued by its key, the second by skipping rows.
pub const KEYED: &str = "/query?sql=SELECT+*+FROM+item+WHERE+id+%3E+:after+ORDER+BY+id";
pub const LONG: &str = "/query?sql=SELECT+*+FROM+item";

/// A database file of one test; removed when dropped.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    rows: usize,
}

impl Database {
    pub fn new(test: &str) -> Self {
        Self::with_rows(test, ROWS)
    }

    pub fn with_rows(test: &str, rows: usize) -> Self {
        let name = format!("moored_{}_{test}.sqlite3", std::process::id());
        Self {
            path: std::env::temp_dir().join(name),
            rows,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn option(&self) -> String {
        format!("--database={}", self.path.display())
    }

    pub fn modified(&self) -> SystemTime {
        let metadata = std::fs::metadata(&self.path).expect("it is there");
        metadata.modified().expect("a time")
    }

    /// Whether no temporary file is left beside the database.
    pub fn has_no_leftovers(&self) -> bool {
        let own = self
            .path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let folder = std::fs::read_dir(std::env::temp_dir()).expect("a folder");
        let mut names =
            folder.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        names.all(|name| name == own || !name.starts_with(&own))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Starts the server. Later options replace earlier ones.
pub fn start(database: &Database, options: &[&str]) -> Server {
    let (file, rows) = (database.option(), format!("--rows={}", database.rows));
    let mut all = vec!["--threads=2", "--query-timeout=100", &file, &rows];
    all.extend(options);
    Server::start("multi_loop", &all)
}

/// An answer, in chunks or not.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut same = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.next().map(|(_, value)| value)
    }

    /// The number of the loop that has given the answer.
    pub fn loop_number(&self) -> usize {
        let number = self
            .header("x-loop")
            .unwrap_or_else(|| panic!("X-Loop in {}", self.head));
        number.parse().unwrap_or_else(|_| panic!("a loop: {number}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// A client that keeps its connection.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn new(server: &Server) -> Self {
        Self(BufReader::new(server.connect()))
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    pub fn send(&mut self, requests: &str) {
        self.stream().write_all(requests.as_bytes()).expect("sent");
    }

    pub fn ask(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask(path);
        self.read()
    }

    /// Whether the server answers. It may have closed the connection.
    pub fn is_served(&mut self) -> bool {
        let request = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = self.stream().write_all(request);
        sent.is_ok() && self.0.fill_buf().is_ok_and(|bytes| !bytes.is_empty())
    }

    /// Reads one answer. Ignores those with status 1xx.
    pub fn read(&mut self) -> Answer {
        let mut answer = self.read_head();
        while answer.status < 200 {
            answer = self.read_head();
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.read_chunk() {
                answer.body.extend(chunk);
            }
        } else {
            let length = answer.header("content-length").expect("a length");
            answer.body = self.read_bytes(length.parse().expect("a number"));
        }
        answer
    }

    fn read_head(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let length = self.0.read_line(&mut head).expect("a line");
            assert!(length > 0, "the connection has ended after {head:?}");
        }
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            status: status.expect("a status"),
            head,
            body: Vec::new(),
        }
    }

    fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the size of a chunk");
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a number");
        let mut chunk = self.read_bytes(size + 2);
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    fn read_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("all bytes");
        bytes
    }
}

/// Rows of CSV with a header, whose values may contain LF but not CR LF.
pub fn rows(csv: &str) -> usize {
    csv.matches("\r\n").count() - 1
}

/// A figure of each loop.
pub fn figures(server: &Server, name: &str) -> Vec<u64> {
    let json = loops(server);
    let loops = json["loops"].as_array().expect("a list");
    loops
        .iter()
        .map(|it| it[name].as_u64().expect("a number"))
        .collect()
}

pub fn interrupted(server: &Server) -> u64 {
    loops(server)["interrupted"].as_u64().expect("a number")
}

fn loops(server: &Server) -> Value {
    serde_json::from_str(&server.get("/loops.json").body).expect("JSON")
}

/// Number of tasks that are on a worker.
pub fn running_tasks(server: &Server) -> u64 {
    server.dump()["counts"]["on_worker"].as_u64().expect("a number")
}
