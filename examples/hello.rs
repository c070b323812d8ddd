//! `cargo run --release --example hello`, then `nc 127.0.0.1 PORT` with the port that it prints, or
//! `curl -N telnet://127.0.0.1:PORT`. Send a number, such as 5000000: the pool counts the primes
//! below it, with a line after each step. Other text counts as 1. A disconnect cancels the work of
//! a client.
#![cfg_attr(rustfmt, rustfmt_skip)] // to fit on one page
use mio::{Events, Interest, Poll, Token, Waker, net::TcpListener};
use moored::{Context, Task, TaskReturn, TaskStatus, ThreadPool};
use std::io::{BufRead, BufReader, Read, Write};
use std::{collections::HashMap, error::Error, net::Shutdown, ops::Range, sync::Arc};

struct Primes { rest: Range<u32>, found: usize }
impl Task for Primes {
    fn step(&mut self, cx: &mut Context<'_>) -> TaskReturn {
        if cx.is_stopping() { return TaskReturn::Stopped; } // the client has disconnected
        if self.rest.is_empty() { return TaskReturn::TaskDone; }
        let is_prime = |n: &u32| *n > 1 && (2..=n.isqrt()).all(|d| !n.is_multiple_of(d));
        self.found += self.rest.by_ref().take(100_000).filter(is_prime).count();
        TaskReturn::Sync // holds no thread until the loop resumes it
    }
}
fn main() -> Result<(), Box<dyn Error>> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let pool = ThreadPool::builder().threads(2).build()?;
    let mut service = pool.service(Arc::new(Waker::new(poll.registry(), Token(0))?));
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
    println!("hello listens on {}", listener.local_addr()?);
    let (mut clients, mut last) = (HashMap::new(), 0);
    loop {
        let _ = poll.poll(&mut events, service.poll_timeout()); // a signal may interrupt it
        while let Ok((mut socket, _)) = listener.accept() {
            last += 1; // an id is never used again
            poll.registry().register(&mut socket, Token(last), Interest::READABLE)?;
            clients.insert(last as u64, (BufReader::new(socket), Vec::new()));
        }
        for event in &events {
            let id = event.token().0 as u64;
            let Some((socket, line)) = clients.get_mut(&id) else { continue };
            // Reads until it would block, since mio reports only new data. A line is cut at 64
            // bytes.
            while let Ok(1..) = socket.by_ref().take(64 - line.len() as u64).read_until(b'\n', line) {
                let rest = 0..String::from_utf8_lossy(line).trim().parse().unwrap_or(1);
                line.clear();
                let refused = service.enqueue(id, Primes { rest, found: 0 }).is_err();
                if refused { _ = socket.get_ref().shutdown(Shutdown::Both) } // the pool is full
            }
            if event.is_read_closed() { // or the client has sent all
                clients.remove(&id);
                eprintln!("client {id} left, tasks cancelled: {}", service.connection_closed(id));
            }
        }
        for ready in service.take_ready() {
            let peer = ready.connection.and_then(|conn| clients.get_mut(&conn.0));
            let (Some(status), Some((socket, _))) = (service.task_status(ready.id), peer) else { continue };
            if let TaskStatus::Syncing(primes) = status {
                let text = format!("{} primes below {}\n", primes.found, primes.rest.start);
                // A client that reads nothing until the kernel's buffer is full is disconnected.
                let sent = socket.get_mut().write(text.as_bytes()).is_ok_and(|sent| sent == text.len());
                if sent { primes.resume() } else { _ = socket.get_ref().shutdown(Shutdown::Both) }
            } else if let TaskStatus::Stopped(..) = status { // it was shed: the pool is full
                _ = socket.get_ref().shutdown(Shutdown::Both);
            }
        }
    }
}
