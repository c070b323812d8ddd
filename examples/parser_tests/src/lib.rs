//! Property tests of the parsers in `examples/src`: see `tests/parsers.rs`. Here is what they share
//! with the fuzz targets in `examples/fuzz`.

#![allow(clippy::missing_errors_doc, reason = "this library is not published")]

use examples::http::Refusal;
use examples::http::body::{Body, Framing};

/// The longest body that is accepted.
pub const BODY_MAX: usize = 4096;

/// Feeds `bytes` in pieces that end at `cuts`: the body, or None if it is not whole, and what was
/// taken.
pub fn take_cut(
    framing: Framing,
    bytes: &[u8],
    mut cuts: Vec<usize>,
) -> Result<(Option<Vec<u8>>, usize), Refusal> {
    let mut body = Body::new(framing, BODY_MAX)?;
    let mut used = 0;
    cuts.push(bytes.len());
    cuts.sort_unstable();
    for cut in cuts {
        // What a call does not take is offered again, with more behind it.
        used += body.take_from(&bytes[used..cut.clamp(used, bytes.len())])?;
    }
    Ok((body.is_whole().then(|| body.take_piece().to_vec()), used))
}

/// The pieces of a body.
pub type Pieces = Vec<Vec<u8>>;

/// Feeds `bytes` in parts that end at `cuts` to a body in pieces, and takes each piece as soon as
/// there is no room. Returns the pieces, if the body is whole, and what was taken.
pub fn take_pieces(
    framing: Framing,
    bytes: &[u8],
    mut cuts: Vec<usize>,
    piece_max: usize,
) -> Result<(Option<Pieces>, usize), Refusal> {
    let mut body = Body::in_pieces(framing, BODY_MAX, piece_max)?;
    let (mut pieces, mut used) = (Vec::new(), 0);
    cuts.push(bytes.len());
    cuts.sort_unstable();
    for cut in cuts {
        loop {
            let rest = &bytes[used..cut.clamp(used, bytes.len())];
            // The way of a server that reads into the piece, and then parses the rest.
            let data = body.take_data(rest);
            used += data + body.take_from(&rest[data..])?;
            if !body.is_full() {
                break;
            }
            pieces.push(body.take_piece().to_vec());
        }
    }
    pieces.push(body.take_piece().to_vec());
    Ok((body.is_whole().then_some(pieces), used))
}
