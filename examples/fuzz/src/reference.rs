//! Plain decoders, written from the standards and without regard to speed. The parsers are compared
//! with them.

/// Decodes a chunked body (RFC 9112, section 7.1). Returns the body, and its length with all chunk
/// heads and trailers. None if it is not whole, or is malformed. Extensions and trailers may
/// contain anything but line ends.
pub fn dechunk(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let line = take_line(&mut rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&line[..digits]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            break;
        }
        let (data, after) = rest.split_at_checked(size)?;
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n")?;
    }
    while !take_line(&mut rest)?.is_empty() {}
    Some((body, bytes.len() - rest.len()))
}

/// The line at the front, without its end.
fn take_line<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = bytes.split_at(length);
    *bytes = &rest[2..];
    (!line.contains(&b'\n') && !line.contains(&b'\r')).then_some(line)
}

/// What a WebSocket client has sent.
#[derive(Debug, Default)]
pub struct Conversation {
    /// Whether each message is text, and its payload.
    pub messages: Vec<(bool, Vec<u8>)>,
    pub end: End,
}

/// Why a conversation does not go on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The bytes end between two messages.
    #[default]
    Idle,
    /// The bytes end inside a frame or a fragmented message.
    Unfinished,
    /// The client has closed.
    Closed,
    /// The client has broken a rule.
    Violated,
}

struct Frame<'a> {
    is_final: bool,
    reserved: u8,
    opcode: u8,
    is_masked: bool,
    payload: Vec<u8>,
    rest: &'a [u8],
}

/// Decodes what a client sends (RFC 6455), up to the first violation in a whole frame.
/// `message_max`: the longest message, in bytes.
pub fn converse(mut bytes: &[u8], message_max: usize) -> Conversation {
    let mut conversation = Conversation::default();
    let mut message: Option<(bool, Vec<u8>)> = None;
    while let Some(frame) = frame(bytes) {
        bytes = frame.rest;
        let is_control = frame.opcode >= 8;
        let is_long = frame.payload.len() > if is_control { 125 } else { message_max };
        if frame.reserved != 0 || !frame.is_masked || is_long || (is_control && !frame.is_final) {
            conversation.end = End::Violated;
            return conversation;
        }
        let end = match (frame.opcode, message.as_mut()) {
            (1 | 2, None) => {
                message = Some((frame.opcode == 1, frame.payload));
                None
            }
            (0, Some((_, payload))) => {
                payload.extend(frame.payload);
                (payload.len() > message_max).then_some(End::Violated)
            }
            (8, _) if is_close(&frame.payload) => Some(End::Closed),
            (9 | 10, _) => None,
            _ => Some(End::Violated),
        };
        if let Some(end) = end {
            conversation.end = end;
            return conversation;
        }
        if !is_control
            && frame.is_final
            && let Some((is_text, payload)) = message.take()
        {
            if is_text && std::str::from_utf8(&payload).is_err() {
                conversation.end = End::Violated;
                return conversation;
            }
            conversation.messages.push((is_text, payload));
        }
    }
    if !bytes.is_empty() || message.is_some() {
        conversation.end = End::Unfinished;
    }
    conversation
}

/// The frame at the front, if it is whole.
fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let ([first, second], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        length => (usize::from(length), rest),
    };
    let is_masked = second & 0x80 != 0;
    let (key, rest) = if is_masked {
        rest.split_first_chunk()?
    } else {
        (&[0; 4], rest)
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some(Frame {
        is_final: first & 0x80 != 0,
        reserved: first & 0x70,
        opcode: first & 0x0f,
        is_masked,
        payload: payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key)
            .collect(),
        rest,
    })
}

/// Whether this is the payload of a close frame (sections 5.5.1 and 7.4).
fn is_close(payload: &[u8]) -> bool {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return payload.is_empty();
    };
    let is_code = matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999);
    is_code && std::str::from_utf8(reason).is_ok()
}
