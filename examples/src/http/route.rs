//! What a path offers. The library answers all other requests.

use http::Method;

const GET: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];
const GET_AND_POST: &[Method] = &[Method::GET, Method::HEAD, Method::POST];

/// The methods of a path, and whether it speaks WebSocket.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    methods: &'static [Method],
    body_bytes: usize,
    /// The longest piece of a body. None if the app gets bodies whole.
    piece_bytes: Option<usize>,
    is_websocket: bool,
}

impl Route {
    /// A path to read from.
    pub const fn get() -> Self {
        Self {
            methods: GET,
            body_bytes: 0,
            piece_bytes: None,
            is_websocket: false,
        }
    }

    /// A path to send to: bodies up to this size.
    pub const fn post(body_bytes: usize) -> Self {
        Self {
            methods: POST,
            body_bytes,
            piece_bytes: None,
            is_websocket: false,
        }
    }

    /// A path to read from and to send to.
    pub const fn get_and_post(body_bytes: usize) -> Self {
        Self {
            methods: GET_AND_POST,
            body_bytes,
            piece_bytes: None,
            is_websocket: false,
        }
    }

    /// A path for WebSocket only: other requests are answered with 426.
    pub const fn websocket() -> Self {
        Self {
            methods: &[],
            body_bytes: 0,
            piece_bytes: None,
            is_websocket: true,
        }
    }

    /// The same path, which speaks WebSocket as well.
    pub const fn or_websocket(self) -> Self {
        Self {
            is_websocket: true,
            ..self
        }
    }

    /// The same path, which gives bodies to the app in pieces of this size, as they arrive. See
    /// [`App::body`](crate::server::App::body).
    pub const fn in_pieces(self, piece_bytes: usize) -> Self {
        Self {
            piece_bytes: Some(piece_bytes),
            ..self
        }
    }

    /// The longest body; longer ones are answered with 413.
    pub fn body_bytes(self) -> usize {
        self.body_bytes
    }

    /// The longest piece of a body. None if the app gets bodies whole.
    pub fn piece_bytes(self) -> Option<usize> {
        self.piece_bytes
    }

    pub fn is_websocket(self) -> bool {
        self.is_websocket
    }

    pub fn is_only_websocket(self) -> bool {
        self.is_websocket && self.methods.is_empty()
    }

    pub fn allows(self, method: &Method) -> bool {
        self.methods.contains(method) || (self.is_websocket && *method == Method::GET)
    }

    /// The value of `Allow`.
    pub fn allow(self) -> String {
        let mut names: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        if self.is_websocket && !self.methods.contains(&Method::GET) {
            names.push("GET");
        }
        names.push("OPTIONS");
        names.join(", ")
    }
}
