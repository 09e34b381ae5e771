//! The `.properties` file: what each key says, and what becomes of it.

mod credentials;
mod format;
mod known;
mod read;
mod reader;
mod report;

pub use credentials::{Credentials, Provider};
pub use format::parse;
pub use read::{Aws, Host, Setup, read};
pub use report::{Entry, Report, Verdict};

#[cfg(test)]
mod tests;
