//! The body of a request: with a length that is told in advance, or in chunks.

use bytes::{Bytes, BytesMut};
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
    /// What has arrived and was not taken.
    bytes: BytesMut,
    /// The most that is kept in `bytes`.
    piece_max: usize,
    /// Bytes that have arrived so far.
    received: usize,
    bytes_max: usize,
    is_chunked: bool,
    awaits: Awaits,
    trailer_bytes: usize,
}

impl Body {
    /// A body that is kept whole. Nothing of it has arrived.
    pub fn new(framing: Framing, bytes_max: usize) -> Result<Self, Refusal> {
        Self::in_pieces(framing, bytes_max, bytes_max)
    }

    /// A body of which at most `piece_max` bytes are kept at a time:
    /// [`take_piece`](Self::take_piece) makes room for more.
    pub fn in_pieces(framing: Framing, bytes_max: usize, piece_max: usize) -> Result<Self, Refusal> {
        let mut body = Self {
            bytes: BytesMut::new(),
            piece_max,
            received: 0,
            bytes_max,
            is_chunked: false,
            awaits: Awaits::Nothing,
            trailer_bytes: 0,
        };
        match framing {
            Framing::Length(0) => {}
            Framing::Length(length) => {
                body.check_room(length)?;
                body.awaits = Awaits::Data(length);
            }
            Framing::Chunked => {
                body.is_chunked = true;
                body.awaits = Awaits::Size;
            }
        }
        Ok(body)
    }

    /// Whether the end of the body has arrived.
    pub fn is_whole(&self) -> bool {
        self.awaits == Awaits::Nothing
    }

    /// Whether nothing more is taken before [`take_piece`](Self::take_piece).
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= self.piece_max && matches!(self.awaits, Awaits::Data(_))
    }

    /// Bytes of the body that have arrived.
    pub fn received(&self) -> usize {
        self.received
    }

    /// What has arrived since the last call.
    pub fn take_piece(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).freeze()
    }

    /// How many bytes to read at once, so that they belong to the next piece. None if it is known
    /// only when they are parsed.
    pub fn read_max(&self) -> Option<usize> {
        let room = self.piece_max - self.bytes.len();
        match self.awaits {
            Awaits::Data(left) if left > room => Some(room),
            _ => None,
        }
    }

    /// Takes what is certain to be data from the front of `input`. Returns how much that was.
    pub fn take_data(&mut self, input: &[u8]) -> usize {
        let Awaits::Data(left) = self.awaits else {
            return 0;
        };
        let room = self.piece_max - self.bytes.len();
        let taken = left.min(input.len()).min(room);
        if self.bytes.is_empty() {
            // Memory that is reserved and not written costs nothing.
            self.bytes.reserve(left.min(room));
        }
        self.bytes.extend_from_slice(&input[..taken]);
        self.received += taken;
        self.awaits = match (left - taken, self.is_chunked) {
            (0, true) => Awaits::LineEnd,
            (0, false) => Awaits::Nothing,
            (left, _) => Awaits::Data(left),
        };
        taken
    }

    /// Takes what belongs to the body from the front of `input`, until there is no room. Returns how
    /// much that was.
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

    /// One step of [`take_from`](Self::take_from). Returns 0 if more input has to arrive, or if there
    /// is no room.
    fn advance(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        match self.awaits {
            Awaits::Data(_) => Ok(self.take_data(input)),
            // httparse takes a line without digits for a size of 0.
            Awaits::Size if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                Err(Refusal(400, "a chunk's size cannot be read"))
            }
            Awaits::Size => match httparse::parse_chunk_size(input) {
                // Another server may take LF alone, or CR alone, for the end of the line.
                Ok(httparse::Status::Complete((used, size)))
                    if used <= LINE_BYTES_MAX
                        && find_line(&input[..used])? == Some(used - 2)
                        && !input[..used - 2].contains(&b'\n')
                        && !input[..used - 2].contains(&b'\r') =>
                {
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
                Some(length) if !is_trailer(&input[..length]) => Err(GARBLED),
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
        if more > self.bytes_max - self.received {
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

/// Whether a line is a header: another server must not take a part of it for a line.
fn is_trailer(line: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 1];
    let whole = [line, b"\r\n\r\n"].concat();
    matches!(
        httparse::parse_headers(&whole, &mut headers),
        Ok(httparse::Status::Complete((used, [_]))) if used == whole.len()
    )
}
