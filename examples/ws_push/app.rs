//! What the loop does with a message, a request and a client.

use std::collections::HashMap;
use std::io;
use std::str;
use std::time::{Duration, Instant};

use bytes::Bytes;
use examples::connection::Sent;
use examples::http::{Request, Response, Route};
use examples::message_queue::QueueLimit;
use examples::monitor::{self, Metrics};
use examples::net::Net;
use examples::origin::AllowedOrigins;
use examples::page;
use examples::page::Page;
use examples::query::Query;
use examples::server::{App, Server};
use examples::upgrade;
use http::header::CONTENT_TYPE;
use moored::{BoxTask, ConnId, Mailbox, SendError, Sender, Service, ThreadPool};
use serde_json::json;
use tungstenite::protocol::frame::coding::{CloseCode, Data};

use crate::client::{self, Client};
use crate::message::{Audience, Message};
use crate::options::Options;
use crate::producer::Producer;
use crate::report::{Report, Situation};

/// Time that the messages of the mailbox may take, before it is the turn of the sockets.
const TIME_PER_TURN: Duration = Duration::from_millis(20);
/// Figures that may wait for the loop: those that it sends at the moment, and the next ones.
const FIGURES_CAPACITY: usize = 2;
/// Clients that `/clients.json` lists without `limit`.
const LISTED_CLIENTS: usize = 100;

pub struct WsPush<'pool> {
    pool: &'pool ThreadPool,
    service: Service<BoxTask>,
    producer: Producer,
    /// What the producer sends.
    figures: Mailbox<Message>,
    /// What clients publish.
    published: Mailbox<Message>,
    publisher: Sender<Message>,
    page: Page,
    /// The connections of `/live`. Those of `/echo` get no messages.
    clients: HashMap<ConnId, Client>,
    queue_limit: QueueLimit,
    max_connections: usize,
    max_message: usize,
    origins: AllowedOrigins,
    counters: Counters,
    report: Option<Report>,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Messages that the loop has taken out of the mailbox.
    pub published: u64,
    /// Messages to clients: one for each client that a message was sent to.
    pub deliveries: u64,
    /// Messages that slow clients did not get.
    pub dropped: u64,
    /// Clients that were closed because they were slow.
    pub disconnected: u64,
}

impl<'pool> WsPush<'pool> {
    pub fn new(pool: &'pool ThreadPool, server: &Server, options: &Options) -> io::Result<Self> {
        let service = pool.service(server.waker());
        let (sender, figures) = service.mailbox(FIGURES_CAPACITY);
        let (publisher, published) = service.mailbox(options.mailbox_capacity);
        Ok(Self {
            pool,
            service,
            producer: Producer::start(sender, options.interval)?,
            figures,
            published,
            publisher,
            page: page!["clients.js", "page.css", "page.html", "page.js"],
            clients: HashMap::new(),
            queue_limit: options.queue_limit,
            max_connections: options.listen.max_connections,
            max_message: options.max_message,
            origins: options.origins.allowed.clone(),
            counters: Counters::default(),
            report: options.report.map(Report::new),
        })
    }

    /// Sends the messages of the mailboxes to their clients. When `time` is up, what is left wakes
    /// the loop again; but at least one message of each mailbox is sent.
    fn deliver(&mut self, net: &mut Net, time: Duration) {
        let begun = Instant::now();
        for mailbox in [&mut self.figures, &mut self.published] {
            for (_, message) in mailbox.drain() {
                let mut receivers = 0;
                for (id, client) in &mut self.clients {
                    if client.is_in(&message.audience) {
                        receivers += 1;
                        deliver_to(net, *id, client, &message, self.queue_limit, &mut self.counters);
                    }
                }
                self.counters.published += 1;
                if let Some(report) = self.report.as_mut().filter(|_| receivers > 0) {
                    report.note(message.published_at);
                }
                if begun.elapsed() >= time {
                    break;
                }
            }
        }
    }

    /// Puts a message into a mailbox, as a producer thread does: it waits for its turn, and their
    /// number is bounded.
    fn publish(&self, request: &Request) -> Response {
        if !self.origins.allow_request(request) {
            let why = "pages of this origin may not publish; the server's option --allow-origin names others";
            return Response::text(403, why);
        }
        let room = match client::room_of(request) {
            Ok(room) => room,
            Err(why) => return Response::text(400, &why),
        };
        let data = if is_text(request) {
            Data::Text
        } else {
            Data::Binary
        };
        if data == Data::Text && str::from_utf8(&request.body).is_err() {
            return Response::text(400, "the body is not UTF-8, which a text must be");
        }
        // A copy, since the body may be part of a larger buffer.
        let message = Message::published(data, Bytes::copy_from_slice(&request.body), room);
        let receivers = self.receivers(&message.audience);
        match self.publisher.broadcast(message) {
            Ok(()) => {
                let body = json!({ "receivers": receivers }).to_string();
                Response::new(202).body("application/json", body)
            }
            Err(SendError::Full(_)) => Response::come_back(1, "the mailbox is full"),
            Err(_) => Response::come_back(5, "the server is going down"),
        }
    }

    fn receivers(&self, audience: &Audience) -> usize {
        self.clients
            .values()
            .filter(|client| client.is_in(audience))
            .count()
    }

    fn slow_clients(&self) -> impl Iterator<Item = (ConnId, &Client)> {
        let clients = self.clients.iter().map(|(id, client)| (*id, client));
        clients.filter(|(_, client)| client.is_slow)
    }

    /// The clients, slow ones first, then the newest ones.
    fn clients_json(&self, net: &Net, query: &str) -> Result<Response, String> {
        let mut query = Query::new(query);
        let limit = query.take_number("limit", LISTED_CLIENTS, 0..=usize::MAX)?;
        query.finish()?;
        let mut clients: Vec<_> = self.clients.iter().collect();
        clients.sort_unstable_by_key(|(id, client)| (!client.is_slow, std::cmp::Reverse(id.0)));
        let listed = clients.iter().take(limit);
        let body = json!({
            "clients": self.clients.len(),
            "slow": self.slow_clients().count(),
            "published": self.counters.published,
            "deliveries": self.counters.deliveries,
            "dropped": self.counters.dropped,
            "disconnected": self.counters.disconnected,
            "copied_bytes": net.counters().copied_bytes,
            "queue_bytes": self.queue_limit.bytes,
            "list": listed.map(|(id, client)| client.to_json(**id, net)).collect::<Vec<_>>(),
        });
        let answer = Response::new(200).body("application/json", body.to_string());
        Ok(answer.header("Cache-Control", "no-store"))
    }

    fn add_metrics(&self, net: &Net, text: &mut Metrics) {
        let counters = &self.counters;
        text.gauge("push_clients", "Clients that get messages.", self.clients.len());
        text.gauge(
            "push_slow_clients",
            "Clients that are too slow.",
            self.slow_clients().count(),
        );
        text.counter("push_published", "Messages published.", counters.published);
        text.counter(
            "push_deliveries",
            "Messages sent to clients.",
            counters.deliveries,
        );
        text.counter(
            "push_dropped",
            "Messages that slow clients did not get.",
            counters.dropped,
        );
        text.counter(
            "push_disconnected",
            "Clients closed as too slow.",
            counters.disconnected,
        );
        text.counter(
            "push_figures_refused",
            "Figures that the full mailbox has refused.",
            self.producer.refused(),
        );
        let names: Vec<_> = self
            .slow_clients()
            .map(|(id, client)| (id, id.0.to_string(), client))
            .collect();
        let queued: Vec<_> = names
            .iter()
            .map(|(id, name, _)| (name.as_str(), net.queued(*id).bytes))
            .collect();
        text.family(
            "push_slow_client_queued_bytes",
            "gauge",
            "Bytes that wait for each slow client.",
        );
        text.samples("push_slow_client_queued_bytes", "client", &queued);
        let dropped: Vec<_> = names
            .iter()
            .map(|(_, name, client)| (name.as_str(), client.dropped))
            .collect();
        text.family(
            "push_slow_client_dropped",
            "gauge",
            "Messages that each slow client did not get.",
        );
        text.samples("push_slow_client_dropped", "client", &dropped);
    }

    fn check_connections(&self, net: &Net) -> Result<(), Response> {
        if net.websockets() >= self.max_connections {
            return Err(Response::come_back(1, "all connections are taken"));
        }
        Ok(())
    }

    fn connect(&mut self, net: &mut Net, id: ConnId, request: &Request) -> Result<(), Response> {
        self.check_connections(net)?;
        if request.path() == "/live" {
            let client = Client::from_query(request.query()).map_err(|why| Response::text(400, &why))?;
            self.clients.insert(id, client);
        }
        net.upgrade(id, request, None);
        Ok(())
    }

    fn answer(&self, net: &Net, request: &Request) -> Response {
        if let Some(answer) = monitor::answer_with(request, self.pool, &net.counters(), |text| {
            self.add_metrics(net, text);
        }) {
            return answer;
        }
        match request.path() {
            "/publish" => self.publish(request),
            "/clients.json" => self
                .clients_json(net, request.query())
                .unwrap_or_else(|why| Response::text(400, &why)),
            // A browser does not tell a page why its WebSocket has failed; here the page can ask.
            "/live" => match (Client::from_query(request.query()), self.check_connections(net)) {
                (Err(why), _) => Response::text(400, &why),
                (_, Err(answer)) => answer,
                _ => upgrade::required(),
            },
            // `route` lets no other path through.
            _ => {
                let file = self.page.answer(request);
                file.unwrap_or_else(|| Response::text(404, self.not_found()))
            }
        }
    }
}

impl App for WsPush<'_> {
    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/live" => Some(Route::get().or_websocket()),
            "/echo" => Some(Route::websocket()),
            "/publish" => Some(Route::post(self.max_message)),
            "/clients.json" => Some(Route::get()),
            _ => self.page.route(path).or_else(|| monitor::route(path)),
        }
    }

    fn not_found(&self) -> &'static str {
        "there is nothing here; try /, /live, /echo, /publish, /clients.json, /dump, /dump.json or /metrics"
    }

    fn request(&mut self, net: &mut Net, id: ConnId, request: Request) {
        let answer = if request.is_handshake {
            self.connect(net, id, &request).err()
        } else {
            Some(self.answer(net, &request))
        };
        if let Some(answer) = answer {
            net.answer(id, request.number, answer);
        }
    }

    fn message(&mut self, net: &mut Net, id: ConnId, message: tungstenite::Message) {
        if self.clients.contains_key(&id) {
            net.close(
                id,
                CloseCode::Unsupported,
                "/live takes no messages: POST them to /publish",
            );
            return;
        }
        let data = if message.is_text() {
            Data::Text
        } else {
            Data::Binary
        };
        net.send_shared(id, data, &message.into_data());
    }

    fn drained(&mut self, _net: &mut Net, id: ConnId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.is_slow = client.is_closing;
        }
    }

    fn closed(&mut self, _net: &mut Net, id: ConnId) {
        self.clients.remove(&id);
        self.service.connection_closed(id);
    }

    fn turn(&mut self, net: &mut Net) {
        self.deliver(net, TIME_PER_TURN);
        let Some(report) = &mut self.report else {
            return;
        };
        report.print_if_due(|| Situation {
            clients: self.clients.len(),
            slow: self.clients.values().filter(|client| client.is_slow).count(),
            counters: self.counters,
            copied_bytes: net.counters().copied_bytes,
        });
    }

    fn poll_timeout(&mut self) -> Option<Duration> {
        let timeouts = [
            self.service.poll_timeout(),
            self.report.as_ref().map(Report::next_timeout),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Ends the producer, and gives the clients what it and others have sent before. The library
    /// closes the clients after that.
    fn stopping(&mut self, net: &mut Net) {
        self.producer.stop();
        self.deliver(net, Duration::MAX);
    }
}

/// Sends a message to one client, and notes whether the client keeps up.
fn deliver_to(
    net: &mut Net,
    id: ConnId,
    client: &mut Client,
    message: &Message,
    limit: QueueLimit,
    counters: &mut Counters,
) {
    let delivery = net.send_limited(id, message.data, &message.payload, limit);
    if delivery.dropped > 0 {
        client.is_slow = true;
        client.dropped += delivery.dropped as u64;
        counters.dropped += delivery.dropped as u64;
    }
    match delivery.sent {
        Sent::Gone if delivery.dropped > 0 => {
            client.is_closing = true;
            counters.disconnected += 1;
        }
        // `closed` follows.
        Sent::Gone => {}
        Sent::All | Sent::Partly => {
            client.messages += 1;
            counters.deliveries += 1;
        }
    }
}

/// Whether the body is text after its type. Without a type it is not.
fn is_text(request: &Request) -> bool {
    let media_type = request.header(CONTENT_TYPE).unwrap_or_default();
    media_type
        .trim_start()
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
}
