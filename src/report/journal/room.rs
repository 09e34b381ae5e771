//! Who has how many answers, with whoever has the most at hand: at 50,000 answers room is made as
//! quickly as at ten.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use tokio::time::Instant;

use super::Asker;
use crate::trigger::tenant::Tenant;

/// A ScaledObject, and who asks for it.
#[derive(Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    asker: Asker,
    peer: Arc<str>,
}

/// What a ScaledObject has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Size {
    pub(super) answers: usize,
    /// When it last asked; `None`: there is no trigger of it.
    pub(super) asked: Option<Instant>,
}

/// A ScaledObject's answers, and when it last asked.
type Place = (usize, Reverse<Instant>, Arc<Key>);

/// Answers by peer, by namespace and by ScaledObject.
#[derive(Debug, Default)]
pub(super) struct Room {
    answers: usize,
    peers: Sizes<Arc<str>>,
    namespaces: HashMap<Arc<str>, Sizes<String>>,
    /// In the order in which they make room, the last first.
    objects: HashMap<Tenant, BTreeSet<Place>>,
}

#[derive(Debug)]
struct Sizes<K> {
    of: HashMap<K, usize>,
    ordered: BTreeSet<(usize, K)>,
}

impl Key {
    pub(super) fn new(tenant: &Tenant, name: &str) -> Self {
        Self {
            asker: Asker {
                namespace: tenant.namespace.clone(),
                name: name.to_owned(),
            },
            peer: Arc::clone(&tenant.peer),
        }
    }

    /// Not after any key of this ScaledObject.
    pub(super) fn first_of(asker: &Asker) -> Self {
        Self {
            asker: asker.clone(),
            peer: "".into(),
        }
    }

    pub(super) fn asker(&self) -> &Asker {
        &self.asker
    }

    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    fn tenant(&self) -> Tenant {
        Tenant {
            peer: Arc::clone(&self.peer),
            namespace: self.asker.namespace.clone(),
        }
    }
}

impl Room {
    /// Of all together.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// A ScaledObject has another number of answers, or asked again.
    pub(super) fn changed(&mut self, key: &Arc<Key>, before: Size, after: Size) {
        let tenant = key.tenant();
        let place = |it: Size| Some((it.answers, Reverse(it.asked?), Arc::clone(key)));
        let its = self.objects.entry(tenant).or_default();
        if let Some(place) = place(before) {
            its.remove(&place);
        }
        its.extend(place(after));
        if its.is_empty() {
            self.objects.remove(&key.tenant());
        }
        if before.answers == after.answers {
            return;
        }
        let changed = |count: usize| count + after.answers - before.answers;
        self.answers = self.answers + after.answers - before.answers;
        self.peers.change(&key.peer, changed);
        let namespaces = self.namespaces.entry(Arc::clone(&key.peer)).or_default();
        namespaces.change(&key.asker.namespace, changed);
        if namespaces.of.is_empty() {
            self.namespaces.remove(&key.peer);
        }
    }

    /// The one that makes room.
    pub(super) fn gives_up(&self) -> Option<Arc<Key>> {
        let peer = self.peers.largest()?;
        let namespace = self.namespaces.get(peer)?.largest()?;
        let largest = Tenant {
            peer: Arc::clone(peer),
            namespace: namespace.clone(),
        };
        let (_, _, key) = self.objects.get(&largest)?.last()?;
        Some(Arc::clone(key))
    }
}

impl<K: Clone + Eq + Hash + Ord> Sizes<K> {
    fn change(&mut self, key: &K, changed: impl FnOnce(usize) -> usize) {
        let before = self.of.remove(key).unwrap_or(0);
        self.ordered.remove(&(before, key.clone()));
        let after = changed(before);
        if after > 0 {
            self.of.insert(key.clone(), after);
            self.ordered.insert((after, key.clone()));
        }
    }

    fn largest(&self) -> Option<&K> {
        self.ordered.last().map(|(_, key)| key)
    }
}

impl<K> Default for Sizes<K> {
    fn default() -> Self {
        Self {
            of: HashMap::new(),
            ordered: BTreeSet::new(),
        }
    }
}
