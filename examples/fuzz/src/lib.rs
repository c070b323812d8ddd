//! What the fuzz targets of the example servers' parsers share.
//!
//! A target feeds the same bytes to a parser several times, split at other places each time: what
//! the parser makes of them must not depend on how they were split.

pub mod http_run;
pub mod reference;
pub mod websocket_run;
pub mod wire;

/// An input, and the number that decides where it is split: its first two bytes.
pub fn split_off_seed(data: &[u8]) -> Option<(u64, &[u8])> {
    let (seed, bytes) = data.split_first_chunk::<2>()?;
    Some((u16::from_le_bytes(*seed).into(), bytes))
}

/// Ways to split `length` bytes, as the ends of the pieces: not at all, behind every byte, and at
/// random places.
pub fn ways_to_split(seed: u64, length: usize) -> [Vec<usize>; 3] {
    let mut random = fastrand::Rng::with_seed(seed);
    let longest = random.usize(2..=64);
    let mut places = Vec::new();
    let mut end = 0;
    while end < length {
        end = length.min(end + random.usize(1..=longest));
        places.push(end);
    }
    [vec![length], (1..=length).collect(), places]
}
