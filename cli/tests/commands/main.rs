//! The operator's commands as their users meet them: the real binary, a real database, the simulator as a server of its
//! own.

mod configuration;
mod doctor;
mod life;
mod program;
mod usage;
