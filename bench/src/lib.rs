//! The benchmarks of Sluice: what `bench/run` runs.
//!
//! [`rig`] holds what they share; each of the other modules is one benchmark of the table in `bench/README.md`, opened by
//! what it measures and against what. Nothing of the product uses this crate.

pub mod arguments;
pub mod b1;
pub mod c1;
pub mod d1;
pub mod e1;
pub mod l1;
pub mod l2;
pub mod l3a;
pub mod l3b;
pub mod l4;
pub mod m1;
pub mod q1;
pub mod q2;
pub mod q3;
pub mod rig;
pub mod s1;
pub mod s2;
pub mod t1;
pub mod w1;
