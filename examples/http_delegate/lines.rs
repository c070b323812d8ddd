//! The content of long answers: numbered lines, so that a client can check each byte.

use bytes::Bytes;

/// Fifteen digits and a line break.
const LINE_BYTES: u64 = 16;

/// `size` bytes of the text from `offset` on. Line N of the text is the number N.
pub fn part(offset: u64, size: usize) -> Bytes {
    let skipped = (offset % LINE_BYTES) as usize;
    let mut text = Vec::with_capacity(skipped + size + LINE_BYTES as usize);
    let mut number = offset / LINE_BYTES;
    while text.len() < skipped + size {
        push_line(&mut text, number);
        number += 1;
    }
    text.truncate(skipped + size);
    Bytes::from(text).slice(skipped..)
}

fn push_line(text: &mut Vec<u8>, mut number: u64) {
    let mut line = *b"000000000000000\n";
    for digit in line[..15].iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    text.extend_from_slice(&line);
}
