//! RFC 6455 as a client of `/echo` of the example `ws_push` sees it: frames, control frames,
//! reserved bits and opcodes, fragments, UTF-8, close codes and large messages. The groups are
//! those of the test suite of Autobahn, which `examples/clients/autobahn` runs against the same
//! path.
//!
//! A case sends its frames in one write, and once more byte by byte if they are short.

#[path = "util/raw_client.rs"]
mod raw_client;
#[path = "util/server.rs"]
mod server;

use raw_client::RawClient;
use server::Server;

const MESSAGE_MAX: usize = 16 << 20;
/// Longer cases are sent in one write only.
const SHORT: usize = 400;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The bit of a frame that ends its message.
const FINAL: u8 = 0x80;

/// What the server has sent. Frames of one message are put together.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Message(u8, Vec<u8>),
    Pong(Vec<u8>),
    /// None for a close frame without a code.
    Close(Option<u16>),
}

struct Echo(Server);

impl Echo {
    fn start() -> Self {
        let max_message = format!("--max-message={MESSAGE_MAX}");
        Self(Server::start("ws_push", &[&max_message]))
    }

    /// Sends the frames, closes with 1000, and expects these answers and the same code.
    fn expect(&self, frames: &[Vec<u8>], answers: &[Sent]) {
        let close = frame(FINAL | CLOSE, &1000_u16.to_be_bytes());
        self.check(
            &[&frames.concat()[..], &close].concat(),
            answers,
            &Sent::Close(Some(1000)),
        );
    }

    /// Sends the frames, and expects these answers and a close frame with the code.
    fn expect_close(&self, frames: &[Vec<u8>], answers: &[Sent], code: u16) {
        self.check(&frames.concat(), answers, &Sent::Close(Some(code)));
    }

    fn check(&self, bytes: &[u8], answers: &[Sent], end: &Sent) {
        let mut ways = vec![bytes.len()];
        if bytes.len() <= SHORT {
            ways.push(1);
        }
        let expected: Vec<_> = answers.iter().chain([end]).collect();
        for length in ways {
            let sent = self.exchange(bytes, length.max(1));
            let start = &bytes[..bytes.len().min(60)];
            // Large messages would fill the screen.
            assert!(
                sent.iter().eq(expected.iter().copied()),
                "sent {start:02x?} in pieces of {length}, got {:?}",
                sent.iter().map(brief).collect::<Vec<_>>()
            );
        }
    }

    /// Sends `bytes` in pieces. Returns everything that the server sends until it ends the
    /// connection.
    fn exchange(&self, bytes: &[u8], piece_length: usize) -> Vec<Sent> {
        let mut client = RawClient::open(self.0.address, "/echo", 256 * 1024);
        for piece in bytes.chunks(piece_length) {
            if !client.try_send_raw(piece) {
                break;
            }
        }
        let mut received = Vec::new();
        while client.read_into(&mut received, 64 * 1024) > 0 {}
        decode(&received)
    }
}

fn brief(sent: &Sent) -> String {
    match sent {
        Sent::Message(opcode, payload) => format!("message of type {opcode}, {} bytes", payload.len()),
        other => format!("{other:?}"),
    }
}

/// Decodes the frames of the server, which have no masks.
fn decode(mut bytes: &[u8]) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut begun: Option<(u8, Vec<u8>)> = None;
    while let [front, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => {
                let (length, rest) = rest.split_first_chunk().expect("a length");
                (
                    usize::try_from(u64::from_be_bytes(*length)).expect("a length"),
                    rest,
                )
            }
            length => (usize::from(*length), rest),
        };
        let (payload, after) = rest.split_at(length);
        bytes = after;
        match front & 0x0f {
            CLOSE => sent.push(Sent::Close(
                payload.first_chunk().map(|code| u16::from_be_bytes(*code)),
            )),
            PONG => sent.push(Sent::Pong(payload.to_vec())),
            CONTINUATION => begun.as_mut().expect("a message").1.extend_from_slice(payload),
            opcode => begun = Some((opcode, payload.to_vec())),
        }
        let is_data = front & 0x08 == 0;
        if is_data && front & FINAL != 0 {
            sent.extend(
                begun
                    .take()
                    .map(|(opcode, payload)| Sent::Message(opcode, payload)),
            );
        }
    }
    assert!(bytes.is_empty(), "the server has sent only a part of a frame");
    sent
}

/// A frame of a client. `front` is its first byte.
fn frame(front: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xa5, 0x17, 0x00, 0xff];
    let mut frame = vec![front];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).expect("a short length")),
        length @ 126..0x1_0000 => {
            frame.push(0xfe);
            frame.extend(u16::try_from(length).expect("a length").to_be_bytes());
        }
        length => {
            frame.push(0xff);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// The frames of a message that is sent in fragments of this length.
fn fragments(opcode: u8, payload: &[u8], length: usize) -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = payload
        .chunks(length)
        .map(|part| frame(CONTINUATION, part))
        .collect();
    frames.first_mut().expect("a payload")[0] |= opcode;
    frames.last_mut().expect("a payload")[0] |= FINAL;
    frames
}

fn text(payload: &[u8]) -> Sent {
    Sent::Message(TEXT, payload.to_vec())
}

/// S28: messages of every form of length.
#[test]
fn messages_come_back_as_they_were_sent() {
    let echo = Echo::start();
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
        for opcode in [TEXT, BINARY] {
            let payload = vec![b'*'; length];
            let frames = [frame(FINAL | opcode, &payload)];
            echo.expect(&frames, &[Sent::Message(opcode, payload)]);
        }
    }
}

/// S28: pings and pongs, and the limit of their payloads.
#[test]
fn pings_are_answered_and_pongs_are_not() {
    let echo = Echo::start();
    for payload in [&b""[..], b"hello", b"\x00\xff\xfe\xfd", &[0xfe; 125]] {
        echo.expect(&[frame(FINAL | PING, payload)], &[Sent::Pong(payload.to_vec())]);
    }
    echo.expect(&[frame(FINAL | PONG, b""), frame(FINAL | PONG, b"unasked")], &[]);
    for opcode in [CLOSE, PING, PONG] {
        echo.expect_close(&[frame(FINAL | opcode, &[b'1'; 126])], &[], 1002);
        // A control frame in fragments.
        echo.expect_close(&[frame(opcode, b""), frame(FINAL, b"")], &[], 1002);
    }
}

/// S28: a frame without a mask, and frames that no extension explains.
#[test]
fn reserved_bits_and_opcodes_end_the_connection() {
    let echo = Echo::start();
    let valid = || frame(FINAL | TEXT, b"before");
    for bits in 1..8 {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            let reserved = frame(FINAL | bits << 4 | opcode, b"");
            echo.expect_close(&[valid(), reserved, valid()], &[text(b"before")], 1002);
        }
    }
    for opcode in (3..8).chain(11..16) {
        for payload in [&b""[..], b"payload"] {
            let reserved = frame(FINAL | opcode, payload);
            echo.expect_close(&[valid(), reserved, valid()], &[text(b"before")], 1002);
        }
    }
    let unmasked = vec![FINAL | TEXT, 2, b'n', b'o'];
    echo.expect_close(&[valid(), unmasked], &[text(b"before")], 1002);
}

/// S28: messages in fragments, with control frames between them.
#[test]
fn fragments_are_put_together() {
    let echo = Echo::start();
    let (first, last) = (|| frame(TEXT, b"one, "), || frame(FINAL, b"two"));
    let middle = || frame(CONTINUATION, b"");
    let ping = |payload: &[u8]| frame(FINAL | PING, payload);
    let whole = || text(b"one, two");
    echo.expect(&[first(), last()], &[whole()]);
    echo.expect(&[first(), middle(), middle(), last()], &[whole()]);
    echo.expect(&[frame(TEXT, b""), middle(), frame(FINAL, b"")], &[text(b"")]);
    let pong = |payload: &[u8]| Sent::Pong(payload.to_vec());
    echo.expect(&[first(), ping(b"1"), last()], &[pong(b"1"), whole()]);
    echo.expect(
        &[first(), ping(b"1"), middle(), ping(b"2"), last()],
        &[pong(b"1"), pong(b"2"), whole()],
    );
    // Nothing to continue, and a message inside another one.
    for front in [CONTINUATION, FINAL] {
        echo.expect_close(&[frame(front, b"what?"), first(), last()], &[], 1002);
        echo.expect_close(&[first(), last(), frame(front, b"what?")], &[whole()], 1002);
    }
    for front in [TEXT, FINAL | TEXT, BINARY, FINAL | BINARY] {
        echo.expect_close(&[first(), frame(front, b"other"), last()], &[], 1002);
    }
    // A message that a close frame cuts off.
    echo.expect(&[first(), ping(b"1"), middle()], &[pong(b"1")]);
}

const VALID_TEXTS: &[&str] = &[
    "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}",
    "Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!",
    "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}",
    "\u{d7ff}\u{e000}\u{fffd}\u{feff}\u{fffe}",
];

/// Surrogates, overlong forms, code points beyond the last one, stray and missing bytes.
const INVALID_TEXTS: &[&[u8]] = &[
    b"\xce\xba\xed\xa0\x80edited",
    b"\xed\xad\xbf\xed\xb0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\x80",
    b"\xbf\x80",
    b"a\x80b",
    b"\xc2 ",
    b"\xe1\x80 ",
    b"\xf1\x80\x80 ",
    b"\xfe",
    b"\xff",
    b"abc\xffdef",
];

/// S28: a text may be split in the middle of a character.
#[test]
fn valid_texts_are_accepted_wherever_they_are_split() {
    let echo = Echo::start();
    for valid in VALID_TEXTS.iter().map(|valid| valid.as_bytes()) {
        for at in 0..=valid.len() {
            let frames = [frame(TEXT, &valid[..at]), frame(FINAL, &valid[at..])];
            echo.expect(&frames, &[text(valid)]);
        }
        echo.expect(&fragments(TEXT, valid, 1), &[text(valid)]);
    }
}

/// S28: a text that is not UTF-8 is refused wherever it is split; bytes may be anything.
#[test]
fn invalid_texts_end_the_connection() {
    let echo = Echo::start();
    for invalid in INVALID_TEXTS {
        for at in 0..=invalid.len() {
            let frames = [frame(TEXT, &invalid[..at]), frame(FINAL, &invalid[at..])];
            echo.expect_close(&frames, &[], 1007);
        }
        // Without the rest of the message, which cannot mend it.
        echo.expect_close(&[frame(TEXT, invalid)], &[], 1007);
        echo.expect(
            &[frame(FINAL | BINARY, invalid)],
            &[Sent::Message(BINARY, invalid.to_vec())],
        );
    }
    // A character that does not end.
    for cut in [&b"\xce"[..], b"abc\xe1\xbd", b"\xf0\x9f\x98"] {
        echo.expect_close(&[frame(FINAL | TEXT, cut)], &[], 1007);
        echo.expect_close(&[frame(TEXT, cut), frame(FINAL, b"")], &[], 1007);
    }
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FINAL | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// S28: the codes that a client may send, and those that it may not.
#[test]
fn a_close_frame_is_answered_or_refused_by_its_code() {
    let echo = Echo::start();
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        echo.expect_close(&[close(code, b"")], &[], code);
        echo.expect_close(&[close(code, "f\u{fc}r heute".as_bytes())], &[], code);
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        echo.expect_close(&[close(code, b"")], &[], 1002);
    }
    echo.expect_close(&[close(1000, &[b'*'; 123])], &[], 1000);
    echo.check(&frame(FINAL | CLOSE, b""), &[], &Sent::Close(None));
    echo.expect_close(&[frame(FINAL | CLOSE, b"\x03")], &[], 1002);
}

/// S28: nothing is answered after the close frame of the client.
#[test]
fn what_follows_a_close_frame_is_ignored() {
    let echo = Echo::start();
    for after in [
        frame(FINAL | TEXT, b"late"),
        frame(FINAL | PING, b"late"),
        close(1001, b""),
    ] {
        let frames = [frame(FINAL | TEXT, b"in time"), close(1000, b""), after];
        echo.expect_close(&frames, &[text(b"in time")], 1000);
    }
}

/// S28: messages up to the limit, in one frame and in fragments of many lengths.
#[test]
fn large_messages_come_back_whole() {
    let echo = Echo::start();
    for (length, fragment_lengths) in [
        (1 << 20, &[64, 1024, 1 << 18, 1 << 20][..]),
        (MESSAGE_MAX, &[1 << 16, MESSAGE_MAX][..]),
    ] {
        let payload: Vec<u8> = (0..length)
            .map(|at| b'a' + u8::try_from(at % 23).expect("a byte"))
            .collect();
        for fragment_length in fragment_lengths {
            let frames = fragments(TEXT, &payload, *fragment_length);
            echo.expect(&frames, &[text(&payload)]);
        }
    }
    let too_long = vec![b'a'; MESSAGE_MAX + 1];
    echo.expect_close(&[frame(FINAL | TEXT, &too_long)], &[], 1009);
    echo.expect_close(&fragments(TEXT, &too_long, MESSAGE_MAX), &[], 1009);
}

/// S28: the pieces in which a message arrives do not matter.
#[test]
fn chopped_writes_do_not_matter() {
    let echo = Echo::start();
    let payload = vec![b'x'; 100_000];
    let bytes = [fragments(TEXT, &payload, 1300).concat(), close(1000, b"")].concat();
    for length in [64, 997, 2048] {
        let sent = echo.exchange(&bytes, length);
        assert!(
            sent == [text(&payload), Sent::Close(Some(1000))],
            "pieces of {length}"
        );
    }
}
