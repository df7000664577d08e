//! The rows of the fault matrix, a file each: what is done to an installation, and what must hold afterwards.
//!
//! A row is honest: it measures what it claims on real processes, and says what fell short. Everything random in it
//! comes from the case's seed.

mod report;
mod row_01;
mod row_02;
mod row_03;
mod row_04;
mod row_05;
mod row_06;
mod row_07;
mod row_08;
mod row_09;
mod row_10;
mod row_11;
mod row_12;
mod row_13;
mod row_14;
mod row_15;
mod row_16;
mod row_18;
mod row_19;
mod row_20;
mod row_21;
mod row_22;
mod row_23;
mod row_24;
mod row_25;
mod row_26;
mod row_27;
mod row_28;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use futures::future::LocalBoxFuture;

pub use self::report::{Findings, Report};
use crate::lab::{Plan, Timing};

/// How large a row is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Within a minute, beside other tests: times shortened, bounds of time widened.
    Small,
    /// As the matrix has it.
    Full,
}

/// One run of one row.
#[derive(Clone, Debug)]
pub struct Case {
    /// The row's number.
    pub row: u16,
    /// Decides everything random.
    pub seed: u64,
    /// How large.
    pub scale: Scale,
    /// An empty folder for logs and records.
    pub folder: PathBuf,
}

impl Case {
    /// The times of leases.
    pub fn timing(&self) -> Timing {
        self.pick(Timing::SHORT, Timing::USUAL)
    }

    /// One of two, by scale.
    pub fn pick<T>(&self, small: T, full: T) -> T {
        match self.scale {
            Scale::Small => small,
            Scale::Full => full,
        }
    }

    /// A bound of time: as promised at full scale, wide beside other tests, where a busy machine is no fault.
    pub fn bound(&self, promised: Duration) -> Duration {
        self.pick(promised * 3 + Duration::from_secs(10), promised)
    }

    /// The usual installation, whose calls take so long.
    pub fn plan(&self, latency: &str) -> Plan {
        Plan {
            timing: self.timing(),
            seed: self.seed,
            latency: latency.to_owned(),
            simulator: Vec::new(),
            server_settings: Vec::new(),
        }
    }
}

/// A row of the matrix.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its number.
    pub number: u16,
    /// The fault, in a few words.
    pub name: &'static str,
    /// What is done.
    pub done: &'static str,
    /// What must hold.
    pub must_hold: &'static str,
    /// Runs it.
    pub run: for<'a> fn(&'a Case) -> LocalBoxFuture<'a, Result<Report>>,
}

/// All rows there are, by number.
pub const ROWS: &[Row] = &[
    row_01::ROW,
    row_02::ROW,
    row_03::ROW,
    row_04::ROW,
    row_05::ROW,
    row_06::ROW,
    row_07::ROW,
    row_08::ROW,
    row_09::ROW,
    row_10::ROW,
    row_11::ROW,
    row_12::ROW,
    row_13::ROW,
    row_14::ROW,
    row_15::ROW,
    row_16::ROW,
    row_18::ROW,
    row_19::ROW,
    row_20::ROW,
    row_21::ROW,
    row_22::ROW,
    row_23::ROW,
    row_24::ROW,
    row_25::ROW,
    row_26::ROW,
    row_27::ROW,
    row_28::ROW,
];

/// The row of that number.
pub fn row(number: u16) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.number == number)
}

#[cfg(test)]
mod tests {
    use super::ROWS;

    #[test]
    fn rows_stand_in_order_and_once() {
        assert!(ROWS.is_sorted_by(|one, next| one.number < next.number));
    }
}
