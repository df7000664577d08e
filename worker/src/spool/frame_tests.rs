//! Whatever happens to a file, every record that is whole is found, and nothing else passes for one.

use proptest::prelude::*;

use super::*;

const OWNER: Uuid = Uuid::from_u128(0x0193_8a2e_7b1c_7def_8abc_0123_4567_89ab);

fn file_of(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for payload in payloads {
        assert!(push(&mut file, OWNER, payload));
    }
    file
}

/// The payloads of the records that are to be settled.
fn unwritten(file: &[u8]) -> Vec<Vec<u8>> {
    let found = scan(file, OWNER).into_iter();
    let payloads = found.filter_map(|found| match found {
        Found::Unwritten { payload, .. } => Some(file[payload].to_vec()),
        _ => None,
    });
    payloads.collect()
}

fn three() -> Vec<Vec<u8>> {
    // The middle one holds what looks like records, one of them of another owner.
    let mut middle = b"SLS\x01KEEP".to_vec();
    push(&mut middle, Uuid::from_u128(7), b"not ours");
    vec![b"first".to_vec(), middle, b"last".to_vec()]
}

#[test]
fn a_tail_that_is_torn_at_any_byte_costs_the_last_record_alone() {
    let payloads = three();
    let file = file_of(&payloads);
    let ends: Vec<usize> = (0..=3).map(|count| file_of(&payloads[..count]).len()).collect();
    for cut in 0..=file.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let found = scan(&file[..cut], OWNER);
        assert_eq!(unwritten(&file[..cut]), payloads[..whole], "cut at {cut}");
        let rest = &found[whole..];
        let is_torn = matches!(rest, [Found::Torn(tail)] if *tail == (ends[whole]..cut));
        assert!(if ends.contains(&cut) { rest.is_empty() } else { is_torn }, "cut at {cut}: {rest:?}");
    }
}

#[test]
fn a_tail_of_zeros_is_torn() {
    let mut file = file_of(&three());
    let end = file.len();
    file.resize(end + 5000, 0);
    assert_eq!(scan(&file, OWNER)[3..], [Found::Torn(end..end + 5000)]);
}

#[test]
fn a_flipped_bit_costs_its_own_record_at_most_and_is_never_believed() {
    let payloads = three();
    let whole = file_of(&payloads);
    let ends: Vec<usize> = (1..=3).map(|count| file_of(&payloads[..count]).len()).collect();
    for bit in 0..whole.len() * 8 {
        let mut file = whole.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        let hit = ends.iter().position(|end| bit / 8 < *end).unwrap();
        let read = unwritten(&file);
        // A bit of the state changes nothing; any other takes its record out, and says so.
        if read == payloads {
            continue;
        }
        let mut others = payloads.clone();
        others.remove(hit);
        assert_eq!(read, others, "bit {bit}");
        let found = scan(&file, OWNER);
        assert!(found.iter().any(|found| matches!(found, Found::Corrupt(_))), "bit {bit}: {found:?}");
    }
}

#[test]
fn what_is_done_is_not_settled_again() {
    let payloads = three();
    let mut file = file_of(&payloads);
    let second = file_of(&payloads[..1]).len();
    file[second + STATE_AT as usize..][..4].copy_from_slice(DONE);
    assert_eq!(unwritten(&file), [payloads[0].clone(), payloads[2].clone()]);
}

#[test]
fn a_record_of_a_newer_program_is_told_from_a_fault() {
    let mut file = file_of(&three()[..1]);
    let (length, sum) = (4u32.to_le_bytes(), payload_sum(OWNER, b"what"));
    file.extend_from_slice(b"SLS\x02KEEP");
    file.extend_from_slice(&[&length[..], &sum, &header_sum(OWNER, 2, &length, &sum), b"what"].concat());
    push(&mut file, OWNER, b"ours");
    assert_eq!(scan(&file, OWNER)[1], Found::Newer);
    assert_eq!(unwritten(&file), [b"first".to_vec(), b"ours".to_vec()]);
}

proptest! {
    #[test]
    fn records_survive_a_round_trip(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
        prop_assert_eq!(unwritten(&file_of(&payloads)), payloads);
    }

    #[test]
    fn garbage_is_no_record(file in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(unwritten(&file), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn records_between_garbage_are_found(
        before in prop::collection::vec(any::<u8>(), 0..100),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..4),
        after in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let file = [before, file_of(&payloads), after].concat();
        prop_assert_eq!(unwritten(&file), payloads);
    }
}
