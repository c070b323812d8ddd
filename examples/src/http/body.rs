//! The body of a request: with a length that is told in advance, or in chunks.

use http::header;

use super::{Refusal, Request, Version};

/// The longest line that announces a chunk, and the longest trailer, with their ends.
const LINE_BYTES_MAX: usize = 1024;
const GARBLED: Refusal = Refusal(400, "the chunked body is malformed");
/// All trailers of a body together.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
}

impl Framing {
    /// A request whose length two servers could read differently is refused, since the server in
    /// front of this one may read the other length (request smuggling).
    pub fn of(request: &Request) -> Result<Self, Refusal> {
        let lengths: Vec<_> = request.headers.get_all(header::CONTENT_LENGTH).iter().collect();
        let codings: Vec<_> = request
            .headers
            .get_all(header::TRANSFER_ENCODING)
            .iter()
            .collect();
        if request.version == Version::Http10 && !codings.is_empty() {
            return Err(Refusal(400, "HTTP/1.0 has no transfer codings"));
        }
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(Self::Length(0)),
            ([length], []) => {
                let digits = length.to_str().unwrap_or_default();
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Refusal(400, "the length of the body is not a number"));
                }
                // Too many digits for a usize are a number all the same: one that is too large.
                Ok(Self::Length(digits.parse().unwrap_or(usize::MAX)))
            }
            ([], [coding]) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(Self::Chunked),
            ([], _) => Err(Refusal(501, "the only transfer coding known here is chunked")),
            _ => Err(Refusal(400, "the request has more than one length")),
        }
    }

    pub fn has_body(self) -> bool {
        self != Self::Length(0)
    }
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Size,
    /// So many bytes of the body.
    Data(usize),
    LineEnd,
    Trailer,
    Nothing,
}

#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_chunked: bool,
    awaits: Awaits,
    trailer_bytes: usize,
}

impl Body {
    /// A body of which nothing has arrived.
    pub fn new(framing: Framing, bytes_max: usize) -> Result<Self, Refusal> {
        let mut body = Self {
            bytes: Vec::new(),
            bytes_max,
            is_chunked: false,
            awaits: Awaits::Nothing,
            trailer_bytes: 0,
        };
        match framing {
            Framing::Length(0) => {}
            Framing::Length(length) => {
                body.check_room(length)?;
                // Memory that is reserved and not written costs nothing.
                body.bytes.reserve_exact(length);
                body.awaits = Awaits::Data(length);
            }
            Framing::Chunked => {
                body.is_chunked = true;
                body.awaits = Awaits::Size;
            }
        }
        Ok(body)
    }

    pub fn is_whole(&self) -> bool {
        self.awaits == Awaits::Nothing
    }

    /// Bytes of the body that have arrived.
    pub fn received(&self) -> usize {
        self.bytes.len()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes what belongs to the body from the front of `input`. Returns how much that was.
    pub fn take_from(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut used = 0;
        while !self.is_whole() {
            match self.advance(&input[used..])? {
                0 => break,
                step => used += step,
            }
        }
        Ok(used)
    }

    /// One step of [`take_from`](Self::take_from). Returns 0 if more input has to arrive.
    fn advance(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        match self.awaits {
            Awaits::Data(left) => {
                let taken = left.min(input.len());
                self.bytes.extend_from_slice(&input[..taken]);
                self.awaits = match (left - taken, self.is_chunked) {
                    (0, true) => Awaits::LineEnd,
                    (0, false) => Awaits::Nothing,
                    (left, _) => Awaits::Data(left),
                };
                Ok(taken)
            }
            // httparse takes a line without digits for a size of 0.
            Awaits::Size if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                Err(Refusal(400, "a chunk's size cannot be read"))
            }
            Awaits::Size => match httparse::parse_chunk_size(input) {
                Ok(httparse::Status::Complete((used, size))) if used <= LINE_BYTES_MAX => {
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    self.check_room(size)?;
                    self.awaits = if size == 0 {
                        Awaits::Trailer
                    } else {
                        Awaits::Data(size)
                    };
                    Ok(used)
                }
                Ok(httparse::Status::Partial) if input.len() <= LINE_BYTES_MAX => Ok(0),
                _ => Err(Refusal(400, "a chunk's size cannot be read")),
            },
            Awaits::LineEnd => match find_line(input)? {
                Some(0) => {
                    self.awaits = Awaits::Size;
                    Ok(2)
                }
                Some(_) => Err(GARBLED),
                None => Ok(0),
            },
            Awaits::Trailer => match find_line(input)? {
                Some(0) => {
                    self.awaits = Awaits::Nothing;
                    Ok(2)
                }
                Some(length) if self.trailer_bytes + length <= TRAILER_BYTES_MAX => {
                    self.trailer_bytes += length;
                    Ok(length + 2)
                }
                Some(_) => Err(Refusal(431, "the trailers are too long")),
                None => Ok(0),
            },
            Awaits::Nothing => Ok(0),
        }
    }

    fn check_room(&self, more: usize) -> Result<(), Refusal> {
        if more > self.bytes_max - self.bytes.len() {
            return Err(Refusal(413, "the body is longer than this path accepts"));
        }
        Ok(())
    }
}

/// The length of the line at the front, without its end. None if more of it has to arrive.
fn find_line(input: &[u8]) -> Result<Option<usize>, Refusal> {
    match memchr::memmem::find(input, b"\r\n") {
        Some(length) if length + 2 <= LINE_BYTES_MAX => Ok(Some(length)),
        None if input.len() <= LINE_BYTES_MAX => Ok(None),
        _ => Err(GARBLED),
    }
}
