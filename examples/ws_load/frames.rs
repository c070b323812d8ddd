//! The frames that a server sends, parsed as they arrive. Payloads are skipped, not kept.

/// The shortest message: its number alone.
const NUMBER_BYTES: u64 = 8;
/// The longest payload of a ping, a pong or a close.
const CONTROL_MAX: u64 = 125;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Where a stream of frames is. Checks that every message is binary, has the expected size, and has
/// the number that follows that of the message before it. A message may come in several frames,
/// with pings between them.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes of a message.
    size: u64,
    /// Whole messages so far.
    messages: u64,
    /// The header of the next frame, as far as it has arrived: at most 10 bytes.
    header: Vec<u8>,
    frame: Frame,
    /// The message that has begun and not ended.
    message: Option<Message>,
    /// Answers to pings, to be sent.
    pongs: Vec<u8>,
}

/// The frame that has begun. None has begun at the start, which is the same as an empty one.
#[derive(Debug, Default)]
struct Frame {
    opcode: u8,
    is_last: bool,
    payload_left: u64,
    /// The payload of a ping or a close.
    control: Vec<u8>,
    is_open: bool,
}

#[derive(Debug, Default)]
struct Message {
    /// Its bytes so far.
    bytes: u64,
    /// The number that it begins with, as far as it has arrived.
    number: u64,
}

impl Frames {
    pub(crate) fn new(size: u64) -> Self {
        Self {
            size,
            messages: 0,
            header: Vec::with_capacity(10),
            frame: Frame::default(),
            message: None,
            pongs: Vec::new(),
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Removes the answers to the pings that have arrived: they must be sent.
    pub(crate) fn take_pongs(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pongs)
    }

    /// Parses the next bytes, which may end anywhere.
    pub(crate) fn parse(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.frame.is_open {
                let length = self.frame.payload_left.min(bytes.len() as u64);
                let (part, rest) = bytes.split_at(length as usize);
                bytes = rest;
                self.frame.payload_left -= length;
                self.take_payload(part)?;
            } else {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                self.begin_frame()?;
            }
            if self.frame.is_open && self.frame.payload_left == 0 {
                self.end_frame()?;
            }
        }
        Ok(())
    }

    /// Looks at the header of a frame, once all of it is there.
    fn begin_frame(&mut self) -> Result<(), String> {
        let [first, second, length @ ..] = &self.header[..] else {
            return Ok(());
        };
        let payload = match (second, length.len()) {
            (0..126, 0) => u64::from(*second),
            (126, 2) | (127, 8) => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            (126 | 127, _) => return Ok(()),
            _ => return Err("a frame of the server is masked".to_owned()),
        };
        let (opcode, is_last) = (first & 0x0F, first & FIN != 0);
        match opcode {
            _ if first & 0x70 != 0 => return Err(format!("a frame has reserved bits: {first:#04x}")),
            BINARY if self.message.is_none() => self.message = Some(Message::default()),
            CONTINUATION if self.message.is_some() => {}
            BINARY => return Err("a message has begun before the last one has ended".to_owned()),
            CONTINUATION => return Err("a continuation frame has no message".to_owned()),
            CLOSE | PING | PONG if is_last && payload <= CONTROL_MAX => {}
            _ => {
                return Err(format!(
                    "a frame is neither binary nor a whole control frame: {first:#04x}"
                ));
            }
        }
        if matches!(opcode, BINARY | CONTINUATION) {
            let before = self.message.as_ref().map_or(0, |message| message.bytes);
            if before.saturating_add(payload) > self.size {
                return Err(format!("a message is longer than {} bytes", self.size));
            }
        }
        self.header.clear();
        self.frame = Frame {
            opcode,
            is_last,
            payload_left: payload,
            control: Vec::new(),
            is_open: true,
        };
        Ok(())
    }

    fn take_payload(&mut self, part: &[u8]) -> Result<(), String> {
        let message = match &mut self.message {
            Some(message) if matches!(self.frame.opcode, BINARY | CONTINUATION) => message,
            _ => {
                self.frame.control.extend_from_slice(part);
                return Ok(());
            }
        };
        let known = message.bytes;
        for (place, byte) in (known..NUMBER_BYTES).zip(part) {
            message.number |= u64::from(*byte) << (8 * place);
        }
        message.bytes += part.len() as u64;
        let expected = self.messages + 1;
        if known < NUMBER_BYTES && message.bytes >= NUMBER_BYTES && message.number != expected {
            let number = message.number;
            return Err(format!("message {number} has come instead of message {expected}"));
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<(), String> {
        let frame = std::mem::take(&mut self.frame);
        match frame.opcode {
            CLOSE => {
                let code = frame
                    .control
                    .first_chunk()
                    .map_or(1005, |code| u16::from_be_bytes(*code));
                return Err(format!("the server has closed a stream with code {code}"));
            }
            PING => {
                // A mask of zeros leaves the payload as it is.
                self.pongs
                    .extend([FIN | PONG, 0x80 | frame.control.len() as u8, 0, 0, 0, 0]);
                self.pongs.extend(frame.control);
            }
            BINARY | CONTINUATION if frame.is_last => {
                self.messages += 1;
                let bytes = self.message.take().map_or(0, |message| message.bytes);
                if bytes != self.size {
                    let (number, size) = (self.messages, self.size);
                    return Err(format!("message {number} has {bytes} bytes instead of {size}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
