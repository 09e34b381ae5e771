//! Who is behind an access key: sessions given out by STS and the credentials endpoint.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use crate::clock::millis;
use crate::config::Config;
use crate::lock;
use crate::protocol::AwsError;
use crate::world::Caller;

/// Sessions kept before those that are over are forgotten.
const SESSIONS: usize = 10_000;

/// The roles and tokens the server knows; all that is not restricted here is allowed.
#[derive(Default)]
pub struct Identities {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    denied_roles: HashSet<String>,
    external_ids: HashMap<String, String>,
    web_identity_token: Option<String>,
    /// Authorization token and role of the credentials endpoint.
    container: Option<(String, String)>,
    sessions: HashMap<String, Session>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("sessions", &lock(&self.known).sessions.len())
            .finish_non_exhaustive()
    }
}

struct Session {
    arn: String,
    account: String,
    token: String,
    expires: u64,
}

/// What a new session is given.
pub(crate) struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
    pub(crate) expires: u64,
    pub(crate) account: String,
    pub(crate) session_arn: String,
    pub(crate) role_id: String,
}

/// Account, path and name of a role's ARN.
pub(crate) struct Role<'a> {
    partition: &'a str,
    account: &'a str,
    name: &'a str,
}

impl<'a> Role<'a> {
    pub(crate) fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (head, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let name = resource.strip_prefix("role/")?.rsplit('/').next()?;
        let good = head == "arn"
            && partition.starts_with("aws")
            && service == "iam"
            && region.is_empty()
            && account.len() == 12
            && account.bytes().all(|it| it.is_ascii_digit())
            && !name.is_empty();
        good.then_some(Self {
            partition,
            account,
            name,
        })
    }
}

impl Identities {
    /// AssumeRole and AssumeRoleWithWebIdentity of this role are denied from now on.
    pub fn deny_role(&self, role_arn: &str) {
        lock(&self.known).denied_roles.insert(role_arn.to_owned());
    }

    /// Takes [`deny_role`](Self::deny_role) back.
    pub fn allow_role(&self, role_arn: &str) {
        lock(&self.known).denied_roles.remove(role_arn);
    }

    /// AssumeRole of this role is denied without this external ID.
    pub fn require_external_id(&self, role_arn: &str, external_id: &str) {
        lock(&self.known)
            .external_ids
            .insert(role_arn.to_owned(), external_id.to_owned());
    }

    /// AssumeRoleWithWebIdentity takes this token only; before this is called, any.
    pub fn require_web_identity_token(&self, token: &str) {
        lock(&self.known).web_identity_token = Some(token.to_owned());
    }

    /// Opens the credentials endpoint of EKS Pod Identity (`GET /v1/credentials`): whoever sends
    /// `token` as its `Authorization` header gets a session of the role.
    pub fn serve_container_credentials(&self, token: &str, role_arn: &str) {
        lock(&self.known).container = Some((token.to_owned(), role_arn.to_owned()));
    }

    /// All sessions given out so far are over at once.
    pub fn expire_sessions(&self) {
        for session in lock(&self.known).sessions.values_mut() {
            session.expires = 0;
        }
    }

    pub(crate) fn is_denied(&self, role_arn: &str) -> bool {
        lock(&self.known).denied_roles.contains(role_arn)
    }

    pub(crate) fn takes_external_id(&self, role_arn: &str, external_id: Option<&str>) -> bool {
        lock(&self.known)
            .external_ids
            .get(role_arn)
            .is_none_or(|wanted| external_id == Some(wanted))
    }

    pub(crate) fn takes_web_identity_token(&self, token: &str) -> bool {
        lock(&self.known)
            .web_identity_token
            .as_ref()
            .is_none_or(|wanted| token == wanted)
    }

    /// The role behind the credentials endpoint, for who knows the token.
    pub(crate) fn container_role(&self, token: &str) -> Option<String> {
        let known = lock(&self.known);
        let (wanted, role_arn) = known.container.as_ref()?;
        (token == wanted).then(|| role_arn.clone())
    }

    pub(crate) fn open_session(
        &self,
        role: &Role<'_>,
        session_name: &str,
        lifetime: Duration,
        now: u64,
    ) -> Credentials {
        let random = |length| {
            std::iter::repeat_with(|| {
                char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[fastrand::usize(..32)])
            })
            .take(length)
            .collect::<String>()
        };
        let Role {
            partition,
            account,
            name,
        } = role;
        let given = Credentials {
            access_key_id: format!("ASIA{}", random(16)),
            secret_access_key: random(40),
            session_token: random(120),
            expires: now + millis(lifetime),
            account: (*account).to_owned(),
            session_arn: format!(
                "arn:{partition}:sts::{account}:assumed-role/{name}/{session_name}"
            ),
            role_id: format!("AROA{}:{session_name}", random(17)),
        };
        let mut known = lock(&self.known);
        if known.sessions.len() >= SESSIONS {
            known.sessions.retain(|_, session| session.expires > now);
        }
        let session = Session {
            arn: given.session_arn.clone(),
            account: given.account.clone(),
            token: given.session_token.clone(),
            expires: given.expires,
        };
        known.sessions.insert(given.access_key_id.clone(), session);
        given
    }

    /// Who signs with this key. A key that was not given out here belongs to the server's account.
    pub(crate) fn caller(
        &self,
        config: &Config,
        access_key_id: &str,
        region: &str,
        token: Option<&str>,
        now: u64,
    ) -> Result<Caller, AwsError> {
        if let Some(session) = lock(&self.known).sessions.get(access_key_id) {
            if token != Some(&session.token) {
                return Err(AwsError::new(
                    "UnrecognizedClientException",
                    "The security token included in the request is invalid.",
                ));
            }
            if session.expires <= now {
                return Err(AwsError::new(
                    "ExpiredTokenException",
                    "The security token included in the request is expired",
                ));
            }
            return Ok(Caller {
                account: session.account.clone(),
                region: region.to_owned(),
                arn: session.arn.clone(),
            });
        }
        Ok(long_term(config, access_key_id, region))
    }

    /// The account of a key, whether its session is over or not.
    pub(crate) fn account(&self, config: &Config, access_key_id: &str) -> String {
        match lock(&self.known).sessions.get(access_key_id) {
            Some(session) => session.account.clone(),
            None => long_term(config, access_key_id, "").account,
        }
    }
}

fn long_term(config: &Config, access_key_id: &str, region: &str) -> Caller {
    let account = config
        .access_keys
        .iter()
        .find(|(key, _)| key == access_key_id)
        .map_or(&config.account, |(_, account)| account);
    Caller {
        account: account.clone(),
        region: region.to_owned(),
        arn: format!("arn:aws:iam::{account}:user/embedded"),
    }
}
