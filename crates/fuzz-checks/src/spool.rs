//! The answer spool: records that a fault may have damaged, and the settlements in them.

use std::ops::Range;

use uuid::Uuid;

#[path = "../../../worker/src/spool/frame.rs"]
mod frame;
#[path = "../../../worker/src/spool/payload.rs"]
mod payload;

use frame::{DONE, Found, HEADER, STATE_AT};

/// Whose files the corpus holds.
const OWNER: Uuid = Uuid::from_u128(0x5eed);
/// Whose payloads are foreign bytes: as with a real folder, they hold none of its records.
const OWNER_OF_FOREIGN_BYTES: Uuid = Uuid::from_u128(0x00f0_e161);

/// Bytes that are a file, a record and a payload as they come; and bytes that damage a good file.
pub(crate) fn check(bytes: &[u8]) {
    check_tiles(bytes, OWNER);
    assert!(frame::payload(bytes, OWNER).is_none_or(|payload| payload.len() + HEADER <= bytes.len()));
    if let Some(settlement) = payload::decode(bytes) {
        let encoded = payload::encode(&settlement).expect("it came out of one record");
        assert_eq!(payload::decode(&encoded).as_ref(), Some(&settlement), "it reads back");
    }
    check_damage(bytes);
}

/// What is found lies in the file, in order, and nothing is found twice.
fn check_tiles(file: &[u8], owner: Uuid) -> Vec<Found> {
    let found = frame::scan(file, owner);
    let mut end = 0;
    for found in &found {
        let here = match found {
            Found::Unwritten { at, payload } => *at..payload.end,
            Found::Corrupt(range) | Found::Torn(range) => range.clone(),
            Found::Written | Found::Newer => continue,
        };
        assert!(
            end <= here.start && here.start < here.end && here.end <= file.len(),
            "{here:?} of {found:?}"
        );
        end = here.end;
    }
    assert!(found.len() <= file.len());
    found
}

/// Three records with the input as their payloads, of which one is marked as done, and one fault: the others are found
/// as they were written.
fn check_damage(bytes: &[u8]) {
    let Some((&[count, which, at, length, kind], rest)) = bytes.split_first_chunk::<5>() else { return };
    let mut file = Vec::new();
    let records: Vec<Range<usize>> = rest
        .chunks(rest.len() / (usize::from(count % 4) + 1) + 1)
        .map(|payload| {
            let start = file.len();
            assert!(frame::push(&mut file, OWNER_OF_FOREIGN_BYTES, payload));
            assert_eq!(frame::payload(&file[start..], OWNER_OF_FOREIGN_BYTES), Some(payload));
            start..file.len()
        })
        .collect();
    if records.is_empty() {
        return;
    }
    let victim = &records[usize::from(which) % records.len()];
    let from = victim.start + usize::from(at) % victim.len();
    let to = (from + usize::from(length) % 16 + 1).min(victim.end);
    let intact = match kind % 3 {
        // Flipped bits within one record.
        0 => {
            file[from..to].iter_mut().for_each(|byte| *byte ^= kind | 1);
            records.iter().filter(|record| *record != victim).cloned().collect()
        }
        // The file was cut off, or never written further.
        1 => {
            file.truncate(from);
            records.iter().filter(|record| record.end <= from).cloned().collect::<Vec<_>>()
        }
        // The verdict is known.
        _ => {
            let state = victim.start + STATE_AT as usize;
            file[state..state + DONE.len()].copy_from_slice(DONE);
            let found = frame::scan(&file, OWNER_OF_FOREIGN_BYTES);
            assert_eq!(found.iter().filter(|found| **found == Found::Written).count(), 1);
            records.iter().filter(|record| *record != victim).cloned().collect()
        }
    };
    let found = check_tiles(&file, OWNER_OF_FOREIGN_BYTES);
    for record in intact {
        let expected = Found::Unwritten { at: record.start, payload: record.start + HEADER..record.end };
        assert!(found.contains(&expected), "the record at {record:?} was lost: {found:?}");
    }
}
