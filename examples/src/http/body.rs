//! The body of a request: of a length told in advance, or in chunks.

use super::{Refusal, Request};

/// The longest line that announces a chunk, and the longest trailer, with their ends.
const LINE_BYTES_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
}

impl Framing {
    /// A request that can be read in two ways is refused: the next server may read it in the
    /// other one (request smuggling).
    pub fn of(request: &Request) -> Result<Self, Refusal> {
        let lengths: Vec<_> = request.all("content-length").collect();
        let codings: Vec<_> = request.all("transfer-encoding").collect();
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(Self::Length(0)),
            // Too many digits for a usize are a number all the same: one that is too large.
            ([digits], []) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self::Length(digits.parse().unwrap_or(usize::MAX)))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Self::Chunked),
            ([], _) => Err(Refusal(501, "of transfer codings, only chunked is known")),
            _ => Err(Refusal(400, "the length of the body is not clear")),
        }
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
    chunked: bool,
    awaits: Awaits,
}

impl Body {
    pub fn new(framing: Framing, bytes_max: usize) -> Result<Self, Refusal> {
        let mut body = Self {
            bytes: Vec::new(),
            bytes_max,
            chunked: false,
            awaits: Awaits::Nothing,
        };
        match framing {
            Framing::Length(0) => {}
            Framing::Length(length) => {
                body.check_room(length)?;
                body.awaits = Awaits::Data(length);
            }
            Framing::Chunked => {
                body.chunked = true;
                body.awaits = Awaits::Size;
            }
        }
        Ok(body)
    }

    pub fn is_whole(&self) -> bool {
        self.awaits == Awaits::Nothing
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes what belongs to the body off the front of `input`, and says how much that was.
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

    /// One step of [`take_from`](Self::take_from); 0 if it takes more input.
    fn advance(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        match self.awaits {
            Awaits::Data(left) => {
                let taken = left.min(input.len());
                self.bytes.extend_from_slice(&input[..taken]);
                self.awaits = match (left - taken, self.chunked) {
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
            Awaits::LineEnd => self.line(input, |line| line.is_empty().then_some(Awaits::Size)),
            Awaits::Trailer => self.line(input, |line| {
                Some(if line.is_empty() {
                    Awaits::Nothing
                } else {
                    Awaits::Trailer
                })
            }),
            Awaits::Nothing => Ok(0),
        }
    }

    fn line(&mut self, input: &[u8], next: impl Fn(&[u8]) -> Option<Awaits>) -> Result<usize, Refusal> {
        let garbled = Refusal(400, "the chunked body is garbled");
        match input.windows(2).position(|end| end == b"\r\n") {
            Some(length) if length + 2 <= LINE_BYTES_MAX => {
                self.awaits = next(&input[..length]).ok_or(garbled)?;
                Ok(length + 2)
            }
            None if input.len() <= LINE_BYTES_MAX => Ok(0),
            _ => Err(garbled),
        }
    }

    fn check_room(&self, more: usize) -> Result<(), Refusal> {
        if more > self.bytes_max - self.bytes.len() {
            return Err(Refusal(413, "the body is longer than is accepted here"));
        }
        Ok(())
    }
}
