//! One promise of a worker at a time, over memory and on a paused clock: the times are the
//! library's own waits and nothing else.

mod answers;
mod busy;
mod clocks;
mod deleted;
mod fan_out;
mod gone;
mod idle;
mod kcl2;
mod kcl3;
mod leases;
mod mending;
mod owners;
mod pace;
mod placement;
mod positions;
mod processing;
mod reading;
mod retention;
mod stopping;
mod world;
