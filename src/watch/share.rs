//! Who holds how much of something that has a bound, and who makes room for whom: first by peer,
//! then by namespace. Pure.

use std::collections::HashMap;

use crate::trigger::tenant::Tenant;

/// What each tenant holds.
#[derive(Debug, Default)]
pub struct Shares(HashMap<Tenant, usize>);

/// There is no room, and nobody who would have to make some.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom {
    /// What the tenant holds.
    pub held: usize,
    /// What would be its fair share.
    pub fair: usize,
}

impl Shares {
    /// Holds one more.
    pub fn add(&mut self, tenant: &Tenant) {
        *self.0.entry(tenant.clone()).or_default() += 1;
    }

    /// Holds one less.
    pub fn remove(&mut self, tenant: &Tenant) {
        let Some(held) = self.0.get_mut(tenant) else {
            return;
        };
        *held -= 1;
        if *held == 0 {
            self.0.remove(tenant);
        }
    }

    /// Who has to give one up for `tenant`, where `most` are held. Whoever holds less than a fair
    /// share gets it of the largest holder: a peer of the largest peer, else a namespace of the
    /// largest among those of the same peer.
    ///
    /// # Errors
    /// Nobody has to.
    pub fn yields_to(&self, tenant: &Tenant, most: usize) -> Result<Tenant, NoRoom> {
        let mut peers: HashMap<&str, usize> = HashMap::from([(&*tenant.peer, 0)]);
        for (holder, held) in &self.0 {
            *peers.entry(&holder.peer).or_default() += held;
        }
        let of_peer = peers[&*tenant.peer];
        let fair = most / peers.len();
        let largest = peers.iter().max_by_key(|(_, held)| **held);
        if let Some((largest, _)) = largest.filter(|(peer, _)| **peer != &*tenant.peer)
            && of_peer < fair
            && let Some(holder) = self.largest_of(largest)
        {
            return Ok(holder.clone());
        }
        let held = self.0.get(tenant).copied().unwrap_or(0);
        let its = self.0.keys().filter(|holder| holder.peer == tenant.peer);
        let fair = of_peer / (its.count() + usize::from(held == 0));
        match self.largest_of(&tenant.peer) {
            Some(holder) if held < fair => Ok(holder.clone()),
            _ => Err(NoRoom { held, fair }),
        }
    }

    fn largest_of(&self, peer: &str) -> Option<&Tenant> {
        let its = self.0.iter().filter(|(holder, _)| &*holder.peer == peer);
        its.max_by_key(|(_, held)| **held).map(|(holder, _)| holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(peer: &str, namespace: &str) -> Tenant {
        Tenant {
            peer: peer.into(),
            namespace: namespace.to_owned(),
        }
    }

    fn shares(held: &[(&str, &str, usize)]) -> Shares {
        let mut shares = Shares::default();
        for (peer, namespace, count) in held {
            for _ in 0..*count {
                shares.add(&tenant(peer, namespace));
            }
        }
        shares
    }

    #[test]
    fn a_peer_with_many_namespaces_makes_room_for_one_with_few() {
        let shares = shares(&[("flood", "a", 60), ("flood", "b", 30), ("keda", "shop", 10)]);
        let victim = shares.yields_to(&tenant("keda", "new"), 100);
        assert_eq!(victim, Ok(tenant("flood", "a")));
        let victim = shares.yields_to(&tenant("flood", "c"), 100);
        assert_eq!(victim, Ok(tenant("flood", "a")), "among its own");
    }

    #[test]
    fn of_one_peer_the_largest_namespace_makes_room() {
        let shares = shares(&[("keda", "a", 90), ("keda", "b", 10)]);
        let victim = shares.yields_to(&tenant("keda", "b"), 100);
        assert_eq!(victim, Ok(tenant("keda", "a")));
        let no_room = NoRoom { held: 90, fair: 50 };
        assert_eq!(shares.yields_to(&tenant("keda", "a"), 100), Err(no_room));
    }

    #[test]
    fn nobody_makes_room_where_all_hold_their_share() {
        let shares = shares(&[("one", "", 50), ("other", "", 50)]);
        let no_room = shares.yields_to(&tenant("one", ""), 100);
        assert_eq!(no_room, Err(NoRoom { held: 50, fair: 50 }));
    }

    #[test]
    fn what_is_given_up_is_forgotten() {
        let mut shares = shares(&[("one", "a", 1)]);
        shares.remove(&tenant("one", "a"));
        shares.remove(&tenant("one", "a"));
        assert!(shares.0.is_empty());
    }
}
