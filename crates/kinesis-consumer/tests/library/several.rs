//! One application over several streams, which come, go, break and are made anew.

mod coming;
mod failing;
mod going;
mod looks;
mod sdk;
mod world;
