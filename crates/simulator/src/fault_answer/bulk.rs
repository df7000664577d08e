//! Answers that are too large, made without being held in memory.

use std::sync::OnceLock;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};
use http::{HeaderName, HeaderValue, header};

use super::bytes::text_start;
use crate::{
    fault::FaultParams,
    script::{Reply, Step},
};

pub(super) const TEN_MB: u64 = 10_000_000;
pub(super) const ONE_GB: u64 = 1_000_000_000;
const DEFAULT_BOMB_BYTES: u64 = 1 << 30;
const DEFAULT_HEADER_BYTES: u64 = 1_000_000;
const CHUNK_BYTES: usize = 64 * 1024;
/// What one piece of the bomb unpacks to.
const BOMB_PIECE_BYTES: usize = 1024 * 1024;
/// A gzip header without name or time (RFC 1952).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last block of deflate with fixed codes (RFC 1951).
const DEFLATE_END: [u8; 2] = [0x03, 0x00];

/// Fills the first text of the answer with letters until the body has `bytes` bytes or a little more. An answer
/// without text gets blanks before it.
pub(super) fn grow(reply: &mut Reply, params: &FaultParams, default_bytes: u64) {
    let wanted = params.bytes.unwrap_or(default_bytes);
    let Some(index) = reply.steps.iter().position(|step| {
        matches!(step, Step::Send { bytes, .. } if
        text_start(bytes).is_some())
    }) else {
        let blanks = Bytes::from(vec![b' '; CHUNK_BYTES]);
        reply.steps.push_front(Step::Repeat { chunk: blanks, count: wanted.div_ceil(CHUNK_BYTES as u64) });
        reply.length = reply.length.and_then(|_| reply.measured_length());
        return;
    };
    if let Some(Step::Send { mut bytes, tokens }) = reply.steps.remove(index) {
        let at = text_start(&bytes).unwrap_or(0);
        let head = bytes.split_to(at);
        let letters = Bytes::from(vec![b'a'; CHUNK_BYTES]);
        let filling = Step::Repeat { chunk: letters, count: wanted.div_ceil(CHUNK_BYTES as u64) };
        for step in [Step::Send { bytes, tokens }, filling, Step::send(head)] {
            reply.steps.insert(index, step);
        }
    }
    reply.length = reply.length.and_then(|_| reply.measured_length());
}

pub(super) fn large_header(reply: &mut Reply, params: &FaultParams) {
    let length = params.bytes.unwrap_or(DEFAULT_HEADER_BYTES) as usize;
    if let Ok(value) = HeaderValue::from_bytes(&vec![b'x'; length]) {
        reply.headers.push((HeaderName::from_static("x-sim-padding"), value));
    }
}

/// A well-formed gzip member that unpacks to zeros; whoever unpacks it all finds its checksum right.
pub(super) fn gzip_bomb(reply: &mut Reply, params: &FaultParams) {
    let pieces = params.bytes.unwrap_or(DEFAULT_BOMB_BYTES).div_ceil(BOMB_PIECE_BYTES as u64).max(1);
    let tokens =
        reply.steps.iter().map(|s| if let Step::Send { tokens, .. } = s { *tokens } else { 0 }).sum();
    reply.headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    reply.steps = [
        Step::Send { bytes: Bytes::from_static(&GZIP_HEADER), tokens },
        Step::Repeat { chunk: bomb_piece(), count: pieces },
        Step::send([&DEFLATE_END[..], &bomb_trailer(pieces)].concat()),
    ]
    .into();
    reply.length = reply.measured_length();
}

/// A megabyte of zeros as whole blocks of deflate that refer to nothing before them.
fn bomb_piece() -> Bytes {
    static PIECE: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let mut packed = Vec::with_capacity(8 * 1024);
        let zeros = vec![0; BOMB_PIECE_BYTES];
        let outcome =
            Compress::new(Compression::best(), false).compress_vec(&zeros, &mut packed, FlushCompress::Full);
        debug_assert!(outcome.is_ok(), "a megabyte of zeros packs into less than 8 KB");
        Bytes::from(packed)
    };
    PIECE.get_or_init(make).clone()
}

/// Checksum and length of so many pieces.
fn bomb_trailer(pieces: u64) -> [u8; 8] {
    let mut piece = Crc::new();
    piece.update(&vec![0; BOMB_PIECE_BYTES]);
    let mut all = Crc::new();
    for _ in 0..pieces {
        all.combine(&piece);
    }
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&all.sum().to_le_bytes());
    trailer[4..].copy_from_slice(&all.amount().to_le_bytes());
    trailer
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_bomb_is_gzip_and_unpacks_to_what_was_asked() {
        let mut reply = Reply::immediate(200, "application/json", "{}");
        gzip_bomb(&mut reply, &FaultParams { bytes: Some(3 << 20), ..FaultParams::default() });
        let mut packed = Vec::new();
        for step in &reply.steps {
            match step {
                Step::Send { bytes, .. } => packed.extend_from_slice(bytes),
                Step::Repeat { chunk, count } => packed.extend(chunk.repeat(*count as usize)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(reply.length, Some(packed.len() as u64));
        assert!(packed.len() < 10_000);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked.len(), 3 << 20);
    }
}
