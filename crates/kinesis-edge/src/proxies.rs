//! The way of a request: by a proxy, or straight; and who was not reached, by name.

use std::{error::Error as StdError, fmt, io, net::IpAddr};

use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    dns::SharedDnsResolver,
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use http::Uri;

use crate::{
    Environment,
    bounded::{self, Apart},
    environment::is_socks,
    guard::{self, GuardedResolver},
    names::Names,
};

/// The credentials' endpoints of an instance and of a pod: a proxy would answer for itself.
const NEVER_PROXIED: [&str; 5] = [
    "169.254.169.254",
    "fd00:ec2::254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::23",
];

/// The proxies of an environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    /// The variable, and the URL, which may have a password in it.
    http: Option<(&'static str, String)>,
    https: Option<(&'static str, String)>,
    exempt: String,
    /// Hosts of the credentials' endpoints.
    direct: Vec<String>,
}

impl Proxies {
    pub(crate) fn new(environment: &Environment) -> Self {
        let exempt = environment.get("NO_PROXY");
        let exempt = exempt.or_else(|| environment.get("no_proxy"));
        let exempt = exempt.unwrap_or_default().to_owned();
        let none = exempt.split(',').any(|host| host.trim() == "*");
        let first = |names: [&'static str; 4]| {
            names.into_iter().filter(|_| !none).find_map(|name| {
                let value = environment.get(name).filter(|value| !is_socks(value))?;
                let url = match value.contains("://") {
                    true => value.to_owned(),
                    false => format!("http://{value}"),
                };
                Some((name, url))
            })
        };
        let named = [
            environment.instance_endpoint(),
            environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ];
        let named = named.into_iter().flatten();
        let direct = named.filter_map(|url| host(&url.parse().ok()?));
        let direct = direct.chain(NEVER_PROXIED.iter().map(ToString::to_string));
        Self {
            http: first(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
            https: first(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            exempt,
            direct: direct.collect(),
        }
    }

    /// The variables that count.
    pub(crate) fn variables(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = [&self.http, &self.https]
            .into_iter()
            .flatten()
            .map(|(name, _)| *name)
            .collect();
        names.dedup();
        names
    }
}

/// What a client may do.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Others name the endpoint.
    guarded: bool,
    /// So many connections to a host.
    connections: Option<usize>,
}

/// A client for all calls: the SDK's own, but for the way, look-ups and what its errors say.
pub(crate) fn http_client(environment: &Environment, names: &Names) -> SharedHttpClient {
    SharedHttpClient::new(ways(environment, names, Limits::of(false)))
}

/// The same for endpoints that others name, which must not be guarded addresses. Sources of
/// credentials are at such addresses, and have the other.
pub(crate) fn guarded_http_client(environment: &Environment, names: &Names) -> SharedHttpClient {
    SharedHttpClient::new(ways(environment, names, Limits::of(true)))
}

/// Either with at most so many connections to a host, whether they are idle, in use or being
/// opened. Subscriptions last for minutes, and go by `unbounded`.
pub(crate) fn bounded_http_client(
    environment: &Environment,
    names: &Names,
    connections: usize,
    guarded: bool,
    unbounded: SharedHttpClient,
) -> SharedHttpClient {
    let bounded = Limits {
        connections: Some(connections),
        ..Limits::of(guarded)
    };
    SharedHttpClient::new(Apart {
        calls: ways(environment, names, bounded),
        subscriptions: unbounded,
    })
}

impl Limits {
    fn of(guarded: bool) -> Self {
        Self {
            guarded,
            connections: None,
        }
    }
}

fn ways(environment: &Environment, names: &Names, limits: Limits) -> Ways {
    let proxies = Proxies::new(environment);
    let trust = TrustStore::empty().with_pem_certificate(environment.trusted());
    let tls = TlsContext::builder().with_trust_store(trust).build();
    let tls = tls.unwrap_or_default();
    let client = |proxy, limits| client(tls.clone(), proxy, names.clone(), limits);
    let exempt = proxies.exempt.clone();
    let by = |proxy: Option<&(&'static str, String)>, make: fn(&str) -> Option<ProxyConfig>| {
        let (variable, url) = proxy?;
        let config = make(url)?.no_proxy(&exempt);
        // The proxy's own name is ours, and it looks up the others.
        let limits = Limits {
            guarded: false,
            ..limits
        };
        Some((*variable, client(config, limits)))
    };
    Ways {
        http: by(proxies.http.as_ref(), |url| ProxyConfig::http(url).ok()),
        https: by(proxies.https.as_ref(), |url| ProxyConfig::https(url).ok()),
        straight: client(ProxyConfig::disabled(), limits),
        guarded: limits.guarded,
        direct: proxies.direct,
        names: names.clone(),
    }
}

fn client(tls: TlsContext, proxy: ProxyConfig, names: Names, limits: Limits) -> SharedHttpClient {
    let Limits {
        guarded,
        connections,
    } = limits;
    let provider = Provider::Rustls(CryptoMode::AwsLc);
    if let Some(connections) = connections {
        let resolver = match guarded {
            true => SharedDnsResolver::new(GuardedResolver),
            false => SharedDnsResolver::new(names),
        };
        return bounded::client(connections, (provider, tls), proxy, resolver);
    }
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(provider.clone())
            .tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(proxy.clone()));
        match guarded {
            true => connector.build_with_resolver(GuardedResolver),
            false => connector.build_with_resolver(names.clone()),
        }
    })
}

#[derive(Debug)]
struct Ways {
    /// With the variable that names the proxy.
    http: Option<(&'static str, SharedHttpClient)>,
    https: Option<(&'static str, SharedHttpClient)>,
    straight: SharedHttpClient,
    guarded: bool,
    direct: Vec<String>,
    names: Names,
}

impl HttpClient for Ways {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = |client: &SharedHttpClient| client.http_connector(settings, components);
        SharedHttpConnector::new(Chosen {
            http: self
                .http
                .as_ref()
                .map(|(by, client)| (*by, connector(client))),
            https: self
                .https
                .as_ref()
                .map(|(by, client)| (*by, connector(client))),
            straight: connector(&self.straight),
            guarded: self.guarded,
            direct: self.direct.clone(),
            names: self.names.clone(),
        })
    }
}

#[derive(Debug)]
struct Chosen {
    http: Option<(&'static str, SharedHttpConnector)>,
    https: Option<(&'static str, SharedHttpConnector)>,
    straight: SharedHttpConnector,
    guarded: bool,
    direct: Vec<String>,
    names: Names,
}

impl HttpConnector for Chosen {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri: Option<Uri> = request.uri().parse().ok();
        let host = uri.as_ref().and_then(host).unwrap_or_default();
        // An address is not looked up.
        if let Some(address) = host.parse::<IpAddr>().ok().filter(|_| self.guarded)
            && let Err(error) = guard::check(&host, &[address])
        {
            let error = ConnectorError::user(Box::new(error));
            return HttpConnectorFuture::new(async move { Err(named(error, host)) });
        }
        let by_proxy = match uri.as_ref().and_then(Uri::scheme_str) {
            Some("https") => self.https.as_ref(),
            _ => self.http.as_ref(),
        };
        let by_proxy = by_proxy.filter(|_| !self.direct.contains(&host));
        let names = self.names.clone();
        // The proxy's own name is the one that was looked up.
        let name = by_proxy.is_none().then(|| host.clone());
        let (host, connector) = match by_proxy {
            Some((variable, connector)) => (format!("{host} ({variable} is set)"), connector),
            None => (host, &self.straight),
        };
        let called = connector.call(request);
        HttpConnectorFuture::new(async move {
            called.await.map_err(|error| {
                names.doubt(name.as_deref());
                named(error, host)
            })
        })
    }
}

/// Without the brackets of IPv6.
fn host(uri: &Uri) -> Option<String> {
    let host = uri.host()?;
    Some(host.trim_matches(['[', ']']).to_owned())
}

/// Somebody who did not answer, or not so that it could be used.
#[derive(Debug)]
pub(crate) struct Unreached {
    /// And the variable of its proxy, if it may have been asked by one.
    pub(crate) host: String,
    pub(crate) timed_out: bool,
    /// Why the certificate that it showed is not trusted.
    pub(crate) untrusted: Option<rustls::CertificateError>,
    source: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not reached", self.host)
    }
}

impl StdError for Unreached {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

fn named(error: ConnectorError, host: String) -> ConnectorError {
    let wrap: fn(_) -> ConnectorError = if error.is_timeout() {
        ConnectorError::timeout
    } else if error.is_io() {
        ConnectorError::io
    } else if error.is_user() {
        ConnectorError::user
    } else {
        |source| ConnectorError::other(source, None)
    };
    let kind = error.as_other();
    let connection = error.connection_metadata().cloned();
    let source = Box::new(Unreached {
        host,
        timed_out: error.is_timeout(),
        untrusted: untrusted(&error),
        source: error.into_source(),
    });
    let error = match kind {
        Some(_) => ConnectorError::other(source, kind),
        None => wrap(source),
    };
    match connection {
        Some(connection) => error.with_connection(connection),
        None => error,
    }
}

/// What is wrong with the certificate, if that is the cause.
fn untrusted(error: &(dyn StdError + 'static)) -> Option<rustls::CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(why.clone());
        }
        // An I/O error hides what it is made of from its chain of causes.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
