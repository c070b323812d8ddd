//! Chunked bodies: what is accepted is what a plain decoder makes of it, whole and in pieces,
//! wherever the bytes are split.
#![no_main]

use examples::http::body::Framing;
use fuzz::reference::dechunk;
use fuzz::{split_off_seed, ways_to_split};
use libfuzzer_sys::fuzz_target;
use parser_tests::{take_cut, take_pieces};

fuzz_target!(|data: &[u8]| {
    let Some((seed, bytes)) = split_off_seed(data) else {
        return;
    };
    let piece_max = usize::try_from(seed % 32).unwrap_or(0) + 1;
    let expected = dechunk(bytes);
    let whole = take_cut(Framing::Chunked, bytes, Vec::new()).ok();
    match &whole {
        Some((Some(body), used)) => assert_eq!(expected.as_ref(), Some(&(body.clone(), *used))),
        Some((None, _)) => assert!(expected.is_none(), "a whole body is not recognized"),
        // Lines that are too long, and the like.
        None => {}
    }
    for ends in ways_to_split(seed, bytes.len()) {
        let cut = take_cut(Framing::Chunked, bytes, ends.clone()).ok();
        assert_eq!(
            cut.as_ref().map(|(body, _)| body),
            whole.as_ref().map(|(body, _)| body),
            "pieces end at {ends:?}"
        );
        let pieces = take_pieces(Framing::Chunked, bytes, ends.clone(), piece_max).ok();
        let Some((Some(pieces), used)) = pieces else {
            assert!(
                !matches!(whole, Some((Some(_), _))),
                "pieces are refused, the whole is not"
            );
            continue;
        };
        assert!(
            pieces.iter().all(|piece| piece.len() <= piece_max),
            "a piece is too long"
        );
        assert_eq!(
            whole,
            Some((Some(pieces.concat()), used)),
            "pieces end at {ends:?}"
        );
    }
});
