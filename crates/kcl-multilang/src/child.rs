//! The user's program, one process for each shard.

mod exchange;
mod guard;
mod output;
mod process;
mod program;
mod stderr;

pub use exchange::{Desk, Request};
pub use guard::{ARGUMENT as GUARD, become_the_program};
pub use process::{Child, ChildError};
pub use program::{Program, Unexecutable};
