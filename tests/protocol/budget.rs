//! What may go wrong in a world, and how often.

/// What may still happen. Each of these makes the states many times more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Left {
    pub(crate) outages: u8,
    pub(crate) stops: u8,
    pub(crate) cuts: u8,
    pub(crate) kills: u8,
    /// Answers of the database that are lost.
    pub(crate) lost_answers: u8,
    pub(crate) slow_beats: u8,
    /// Calls that are cut under way, or refused a connection.
    pub(crate) bad_calls: u8,
    pub(crate) errors: u8,
    pub(crate) cancels: u8,
    pub(crate) replays: u8,
    pub(crate) releases: u8,
    pub(crate) deadlines: u8,
    pub(crate) clock_jumps: u8,
    pub(crate) fail_overs: u8,
}

/// Nothing goes wrong, and nobody interferes.
pub(crate) const NO_FAULTS: Left = Left {
    outages: 0,
    stops: 0,
    cuts: 0,
    kills: 0,
    lost_answers: 0,
    slow_beats: 0,
    bad_calls: 0,
    errors: 0,
    cancels: 0,
    replays: 0,
    releases: 0,
    deadlines: 0,
    clock_jumps: 0,
    fail_overs: 0,
};
