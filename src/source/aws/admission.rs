//! Who may have how many AWS clients: regions and roles come from metadata, and each new one is a
//! client with connections, credentials and a quota of its own.
//!
//! Whoever asks may hold as many as it leaves free: a peer half of all, if alone, and of that a
//! namespace half, if alone. So there is room for a newcomer, and nobody has to give one up.

use std::{fmt, sync::Arc};

use kinesis_edge::Service;

use super::{Aws, Client, ClientKey, lock};
use crate::{
    error::{Error, shortened},
    trigger::{LeaseTable, Role, StreamSource, tenant::Tenant},
};

/// The clients that a source needs, until its fetcher holds them.
#[derive(Debug, Default)]
pub struct Admitted {
    _clients: Vec<Arc<Client>>,
}

impl ClientKey {
    pub(super) fn kinesis(stream: &StreamSource) -> Self {
        Self {
            service: Service::Kinesis,
            role: stream.role.clone(),
            region: stream.region.clone(),
            endpoint: stream.endpoint.clone(),
        }
    }

    pub(super) fn dynamodb(table: &LeaseTable) -> Self {
        Self {
            service: Service::DynamoDb,
            role: table.role.clone(),
            region: table.region.clone(),
            endpoint: table.endpoint.clone(),
        }
    }
}

/// As the metadata have it.
impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            role,
            region,
            endpoint,
        } = self;
        let of = |stream, table| match service {
            Service::DynamoDb => table,
            _ => stream,
        };
        write!(f, "{} {region:?}", of("awsRegion", "leaseTableRegion"))?;
        if let Some(Role { arn, .. }) = role {
            write!(f, " with {} {arn:?}", of("awsRoleArn", "leaseTableRoleArn"))?;
        }
        if let Some(endpoint) = endpoint {
            let key = of("awsEndpoint", "leaseTableEndpoint");
            write!(f, " at {key} {:?}", endpoint.as_str())?;
        }
        Ok(())
    }
}

impl Aws {
    /// The clients for a source of somebody's.
    pub(in crate::source) fn admit(
        self: &Arc<Self>,
        stream: &StreamSource,
        table: Option<&LeaseTable>,
        tenant: &Tenant,
    ) -> Result<Admitted, Error> {
        let table = table.map(ClientKey::dynamodb);
        let keys = std::iter::once(ClientKey::kinesis(stream)).chain(table);
        let clients = keys.map(|key| self.admit_one(key, tenant));
        Ok(Admitted {
            _clients: clients.collect::<Result<_, _>>()?,
        })
    }

    fn admit_one(self: &Arc<Self>, key: ClientKey, tenant: &Tenant) -> Result<Arc<Client>, Error> {
        let known = lock(&self.clients)
            .get(&key)
            .and_then(std::sync::Weak::upgrade);
        if let Some(known) = known {
            return Ok(known);
        }
        let (mut all, mut of_peer, mut of_namespace) = (0, 0, 0);
        for client in lock(&self.clients)
            .values()
            .filter_map(std::sync::Weak::upgrade)
        {
            let Some(holder) = &client.holder else {
                continue;
            };
            let is_peer = holder.peer == tenant.peer;
            all += 1;
            of_peer += usize::from(is_peer);
            of_namespace += usize::from(is_peer && holder.namespace == tenant.namespace);
        }
        let peer = share(self.most, all - of_peer);
        let namespace = share(peer, of_peer - of_namespace);
        if of_peer < peer && of_namespace < namespace {
            return Ok(self.client(key, Some(tenant)));
        }
        let most = self.most;
        Err(Error::Exhausted {
            limit: "awsClients",
            why: format!(
                "{key} would need one more AWS client than namespace {:?} may have: it has {of_namespace}, and all \
                 namespaces of this peer {of_peer}, of limits.awsClients, {most}, of which others leave {} free. Use \
                 fewer regions, roles and endpoints, or raise limits.awsClients",
                shortened(&tenant.namespace),
                most - (all - of_peer),
            ),
        })
    }
}

/// Half of what others leave free, but one at least.
fn share(most: usize, of_others: usize) -> usize {
    let free = most.saturating_sub(of_others);
    free.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::AwsConfig,
        trigger::{Stream, StreamSource},
    };

    fn source(region: &str) -> StreamSource {
        StreamSource {
            stream: Stream::Name("orders".to_owned()),
            region: region.to_owned(),
            endpoint: None,
            role: None,
        }
    }

    fn tenant(peer: &str, namespace: &str) -> Tenant {
        Tenant {
            peer: peer.into(),
            namespace: namespace.to_owned(),
        }
    }

    /// The clients of ever new regions, until one is refused, and why.
    fn fill(aws: &Arc<Aws>, tenant: &Tenant) -> (Vec<Admitted>, String) {
        let mut held = Vec::new();
        loop {
            let region = format!("{}{}-{}", tenant.peer, tenant.namespace, held.len());
            match aws.admit(&source(&region), None, tenant) {
                Ok(admitted) => held.push(admitted),
                Err(error) => return (held, error.to_string()),
            }
        }
    }

    #[tokio::test]
    async fn made_up_regions_leave_room_for_other_namespaces_and_peers() {
        let aws = Aws::bounded(AwsConfig::default(), None, Arc::default(), 100);
        let (evil, why) = fill(&aws, &tenant("keda", "evil"));
        assert_eq!(evil.len(), 25);
        for part in [
            "awsRegion \"kedaevil-25\"",
            "limits.awsClients, 100",
            "\"evil\"",
        ] {
            assert!(why.contains(part), "{why}");
        }
        let shop = fill(&aws, &tenant("keda", "shop")).0;
        assert_eq!(shop.len(), 13);
        let other = fill(&aws, &tenant("other", "shop")).0;
        assert_eq!(other.len(), 16);
        // What is known already takes no more.
        let known = aws.admit(&source("kedaevil-0"), None, &tenant("keda", "evil"));
        assert!(known.is_ok());
        drop((evil, known));
        let again = fill(&aws, &tenant("keda", "evil")).0;
        assert_eq!(again.len(), 15, "there is room again");
    }
}
