//! One application over several streams, which come, go, break and are made anew.

mod coming;
mod failing;
mod sdk;
mod world;
