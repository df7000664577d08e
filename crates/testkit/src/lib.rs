//! What tests need: a Postgres of their own, jobs to put into it, and signals instead of sleeps.
//!
//! - [`TestDatabase`]: an empty or migrated database for one test, in milliseconds;
//! - [`TestCluster`]: a whole server for one test, to be killed, paused, started again and followed by a standby;
//! - [`SmallDisks`]: file systems for it that can be filled to the brim;
//! - [`Collector`]: an OpenTelemetry collector that keeps what it is sent;
//! - [`containers`]: servers of other versions;
//! - [`job`]: jobs, as far as a test cares about them;
//! - [`wait_for`] and [`wait_until`]: wait for what happens.
//!
//! For tests only: a set-up that fails panics with its reason.

mod cluster;
mod collector;
pub mod containers;
mod database;
mod disks;
mod dropper;
mod jobs;
mod processes;
mod relaunch;
mod server;
mod signals;
mod standby;
mod template;
mod watchdog;

pub use cluster::TestCluster;
pub use collector::{Collector, attribute};
pub use database::TestDatabase;
pub use disks::{SmallDisk, SmallDisks};
pub use jobs::{JobBuilder, job};
pub use signals::{wait_for, wait_until};
pub use template::{MIGRATIONS, template_name};
