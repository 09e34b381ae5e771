//! The account of one shard's user records: each one that was fetched is settled by an event.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    face::event::Event, model::keys::LeaseKey, run::context::Context, run::retrieval::Gone,
};

/// The user records that were fetched and are not settled yet. When it is closed, or dropped, they
/// are given back.
#[derive(Debug)]
pub(crate) struct Hand {
    context: Arc<Context>,
    shard: LeaseKey,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    records: usize,
    closed: bool,
}

impl Hand {
    pub(super) fn new(context: Arc<Context>, shard: LeaseKey) -> Self {
        let state = State {
            records: 0,
            closed: false,
        };
        Self {
            context,
            shard,
            state: Mutex::new(state),
        }
    }

    /// So many records came in a page; the first `covered` of them are processed already.
    pub(super) fn fetch(&self, records: usize, covered: usize) -> Result<(), Gone> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Gone);
        }
        state.records += records - covered;
        // Under the lock, so that nothing is given back before it is told as fetched.
        self.context.report(Event::Fetched {
            shard: self.shard.clone(),
            records,
            covered,
        });
        Ok(())
    }

    /// An event said that so many records are processed or rejected.
    pub(crate) fn settle(&self, records: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.records = state.records.saturating_sub(records);
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        let records = std::mem::take(&mut state.records);
        drop(state);
        if records > 0 {
            self.context.report(Event::GivenBack {
                shard: self.shard.clone(),
                records,
            });
        }
    }
}
