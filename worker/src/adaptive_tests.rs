//! What single workers make of what their calls meet. How beliefs change is tested in `policy::aimd`.

use super::*;

const LIMIT: LimitId = LimitId(8);
const BOUNDS: Bounds = Bounds { floor: 1, ceiling: 1_000 };

fn adaptive(now: Instant) -> Adaptive {
    let adaptive = Adaptive::default();
    adaptive.learn(LIMIT, BOUNDS, now);
    adaptive
}

/// As the database answers where nobody else was faster.
fn stored(made: &Move, lowered: Option<Duration>) -> StoredBelief {
    let Belief { cap, refused_at, raises, falls, because } = made.belief;
    StoredBelief {
        version: made.seen + 1,
        cap,
        refused_at,
        raises,
        falls,
        because: because.as_str().to_owned(),
        changed: Duration::ZERO,
        lowered,
    }
}

fn refuse(adaptive: &Adaptive, leased_at: Instant, now: Instant) -> bool {
    adaptive.lock().get_mut(&LIMIT).unwrap().note_refusal(leased_at, now)
}

fn only(moves: &[Move]) -> Move {
    assert_eq!(moves.len(), 1, "{moves:?}");
    moves[0]
}

#[test]
fn the_first_belief_is_asked_for_and_raised_only_when_it_is_in_use() {
    let begun = Instant::now();
    let adaptive = adaptive(begun);
    let first = only(&adaptive.moves(begun));
    assert_eq!((first.seen, first.belief), (0, Belief::first(BOUNDS)));
    assert!(adaptive.told(&first, Some(stored(&first, None)), begun, begun));
    let later = begun + Duration::from_mins(1);
    assert_eq!(adaptive.moves(later), []);
    adaptive.note_full([LIMIT].into_iter(), later);
    assert_eq!(adaptive.moves(later), [], "calls may be refused yet");
    let raised = only(&adaptive.moves(later + REFUSED_WITHIN));
    assert_eq!((raised.seen, raised.belief.cap), (1, 16));
}

#[test]
fn refusals_are_gathered_and_those_of_calls_leased_before_the_fall_say_nothing() {
    let begun = Instant::now();
    let adaptive = adaptive(begun);
    let first = only(&adaptive.moves(begun));
    adaptive.told(&first, Some(stored(&first, None)), begun, begun);
    assert!(adaptive.absorbs_refusal(&[LIMIT]));
    assert!(refuse(&adaptive, begun, begun));
    assert_eq!(adaptive.moves(begun), [], "more may come");
    let gathered = begun + GATHERED_WITHIN;
    let fall = only(&adaptive.moves(gathered));
    assert_eq!((fall.belief.cap, fall.belief.because), (7, Because::Refused));
    assert!(!adaptive.told(&fall, Some(stored(&fall, Some(Duration::ZERO))), begun, gathered));
    assert_eq!(adaptive.moves(gathered + Duration::from_millis(1)), []);
    assert!(!refuse(&adaptive, begun, gathered), "leased before the fall");
    assert!(refuse(&adaptive, gathered, gathered));
}

#[test]
fn whoever_comes_second_learns_what_the_first_wrote() {
    let begun = Instant::now();
    let adaptive = adaptive(begun);
    let first = only(&adaptive.moves(begun));
    let others = StoredBelief { version: 41, cap: 300, ..stored(&first, None) };
    assert!(adaptive.told(&first, Some(others), begun, begun));
    assert_eq!(
        adaptive.lock()[&LIMIT].belief.map(|(version, belief)| (version, belief.cap)),
        Some((41, 300))
    );
}

#[test]
fn what_the_database_does_not_know_is_asked_for_again_later() {
    let begun = Instant::now();
    let adaptive = adaptive(begun);
    let first = only(&adaptive.moves(begun));
    adaptive.told(&first, None, begun, begun);
    assert_eq!(adaptive.moves(begun), []);
    assert_eq!(adaptive.moves(begun + TRIED_AGAIN_AFTER).len(), 1);
    assert!(!adaptive.absorbs_refusal(&[LIMIT]), "nothing is believed yet");
}

#[test]
fn calls_count_as_under_way_until_they_end() {
    let begun = Instant::now();
    let adaptive = adaptive(begun);
    let under_way = adaptive.begin(&[LIMIT, LimitId(4)]);
    assert_eq!(adaptive.lock()[&LIMIT].under_way, 1);
    drop(under_way);
    assert_eq!(adaptive.lock()[&LIMIT].under_way, 0);
}
