//! Who asks, and for whom.

use std::sync::Arc;

/// On whose behalf something is asked or held.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Tenant {
    /// Who asks: the name in its certificate, else its address. KEDA asks for many namespaces.
    pub peer: Arc<str>,
    /// The namespace, as claimed.
    pub namespace: String,
}

impl From<&str> for Tenant {
    /// Of a peer that is not told apart from others.
    fn from(namespace: &str) -> Self {
        Self {
            peer: "".into(),
            namespace: namespace.to_owned(),
        }
    }
}
