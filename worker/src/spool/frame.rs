//! How records lie in a spool file, and how they are found again.
//!
//! ```text
//! mark    3 bytes  "SLS"
//! version 1 byte   newer versions keep these 20 bytes
//! state   4 bytes  "KEEP", or "DONE" once the verdict is known; written over in place
//! length  4 bytes  of the payload, little endian
//! sums    8 bytes  CRC-32 of the payload, and of the other fields but the state
//! payload
//! ```
//!
//! There is no header of the file, so that no single fault costs more than a record. Anything but exactly "DONE" counts
//! as unwritten: then the answer is settled once more, which the database recognises. The sums begin with the folder's
//! id, which no upstream knows; so an answer can't hold bytes that pass for a record when a fault makes us look for the
//! next one.

use std::ops::Range;

use crc32fast::Hasher;
use uuid::Uuid;

/// What stands before the payload.
pub(super) const HEADER: usize = 20;
/// Where the state lies in a record.
pub(super) const STATE_AT: u64 = 4;
/// The state of a record whose verdict is known.
pub(super) const DONE: &[u8; 4] = b"DONE";

const KEEP: &[u8; 4] = b"KEEP";
const MARK: &[u8; 3] = b"SLS";
const VERSION: u8 = 1;

/// What lies somewhere in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A record that is to be settled.
    Unwritten { at: usize, payload: Range<usize> },
    /// A record whose verdict is known.
    Written,
    /// A record that a newer program wrote.
    Newer,
    /// Bytes that are no record any more.
    Corrupt(Range<usize>),
    /// The end of the file was still being written when the process or the machine went down.
    Torn(Range<usize>),
}

/// Puts a record behind others. `false`: the payload is too large for any.
pub(super) fn push(file: &mut Vec<u8>, owner: Uuid, payload: &[u8]) -> bool {
    let Ok(length) = u32::try_from(payload.len()) else { return false };
    let length = length.to_le_bytes();
    let sum = payload_sum(owner, payload);
    file.extend_from_slice(MARK);
    file.push(VERSION);
    file.extend_from_slice(KEEP);
    file.extend_from_slice(&length);
    file.extend_from_slice(&sum);
    file.extend_from_slice(&header_sum(owner, VERSION, &length, &sum));
    file.extend_from_slice(payload);
    true
}

/// The payload of one whole record, if it is one.
pub(super) fn payload(record: &[u8], owner: Uuid) -> Option<&[u8]> {
    let header = Header::read(record, owner)?;
    let payload = record.get(HEADER..HEADER + header.length)?;
    (header.version == VERSION && payload_sum(owner, payload) == header.payload_sum).then_some(payload)
}

/// All that lies in a file, in order.
pub(super) fn scan(file: &[u8], owner: Uuid) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < file.len() {
        let (here, end) = look(file, at, owner);
        found.push(here);
        at = end;
    }
    found
}

/// What lies at `at`, and where it ends.
fn look(file: &[u8], at: usize, owner: Uuid) -> (Found, usize) {
    let rest = &file[at..];
    let Some(header) = Header::read(rest, owner) else { return without_header(file, at, owner) };
    let end = at + HEADER + header.length;
    let Some(payload) = rest.get(HEADER..HEADER + header.length) else {
        return (Found::Torn(at..file.len()), file.len());
    };
    let found = if header.is_done {
        Found::Written
    } else if header.version != VERSION {
        Found::Newer
    } else if payload_sum(owner, payload) == header.payload_sum {
        Found::Unwritten { at, payload: at + HEADER..end }
    } else {
        Found::Corrupt(at..end)
    };
    (found, end)
}

fn without_header(file: &[u8], at: usize, owner: Uuid) -> (Found, usize) {
    let next = (at + 1..file.len()).find(|next| Header::read(&file[*next..], owner).is_some());
    let rest = &file[at..];
    // File systems may leave zeros where a write was cut off.
    let is_torn = next.is_none() && (rest.len() < HEADER || rest.iter().all(|byte| *byte == 0));
    let end = next.unwrap_or(file.len());
    (if is_torn { Found::Torn(at..end) } else { Found::Corrupt(at..end) }, end)
}

struct Header {
    version: u8,
    is_done: bool,
    length: usize,
    payload_sum: [u8; 4],
}

impl Header {
    /// The header at the beginning of `bytes`, where it is whole and right.
    fn read(bytes: &[u8], owner: Uuid) -> Option<Self> {
        let rest = bytes.strip_prefix(MARK)?;
        let (&version, rest) = rest.split_first()?;
        let (state, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (payload_sum, rest) = rest.split_first_chunk::<4>()?;
        let (sum, _) = rest.split_first_chunk::<4>()?;
        (*sum == header_sum(owner, version, length, payload_sum)).then(|| Self {
            version,
            is_done: state == DONE,
            length: u32::from_le_bytes(*length) as usize,
            payload_sum: *payload_sum,
        })
    }
}

fn payload_sum(owner: Uuid, payload: &[u8]) -> [u8; 4] {
    sum(&[owner.as_bytes(), payload])
}

fn header_sum(owner: Uuid, version: u8, length: &[u8], payload_sum: &[u8]) -> [u8; 4] {
    sum(&[owner.as_bytes(), &[version], length, payload_sum])
}

fn sum(parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
