//! The one table of variables, and what each may say.

use std::{env, fs};

use http::{Uri, uri::Authority};

use super::trust;
use crate::regions::is_region;

/// What a variable may say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// Any text.
    Text,
    /// Any text, which is not repeated.
    Secret,
    Url,
    /// A proxy: as a URL, or host and port. It may have a password in it.
    Proxy,
    /// As [`Proxy`](Self::Proxy); or one of SOCKS, for others: AWS's tools pass it over.
    AnyProxy,
    Region,
    Flag,
    /// A whole number of at least this.
    AtLeast(u32),
    OneOf(&'static [&'static str]),
    RoleArn,
    /// A path that starts with a slash, in a URL.
    UrlPath,
    /// A file that can be read.
    File,
    /// A file with certificates in PEM.
    Certificates,
    /// Directories, separated as those of `PATH` are.
    Directories,
}

use Rule::{
    AnyProxy, AtLeast, Certificates, Directories, File, Flag, OneOf, Proxy, Region, RoleArn,
    Secret, Text, Url, UrlPath,
};

const CHECKSUMS: Rule = OneOf(&["when_supported", "when_required"]);

/// `legacy` is other SDKs' and AWS CLI's: standard to this one.
const RETRY_MODES: Rule = OneOf(&["standard", "adaptive", "legacy"]);

/// Every variable that the SDK reads, or this crate in its place.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("AWS_REGION", Region),
    ("AWS_DEFAULT_REGION", Region),
    ("AWS_ENDPOINT_URL", Url),
    ("AWS_ENDPOINT_URL_KINESIS", Url),
    ("AWS_ENDPOINT_URL_DYNAMODB", Url),
    ("AWS_ENDPOINT_URL_STS", Url),
    ("AWS_ENDPOINT_URL_SSO", Url),
    ("AWS_ENDPOINT_URL_SSO_OIDC", Url),
    ("AWS_ENDPOINT_URL_SIGNIN", Url),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", Flag),
    ("AWS_USE_FIPS_ENDPOINT", Flag),
    ("AWS_USE_DUALSTACK_ENDPOINT", Flag),
    (
        "AWS_ACCOUNT_ID_ENDPOINT_MODE",
        OneOf(&["preferred", "disabled", "required"]),
    ),
    ("AWS_STS_REGIONAL_ENDPOINTS", Text),
    ("AWS_DEFAULTS_MODE", Text),
    ("AWS_ACCESS_KEY_ID", Secret),
    ("AWS_SECRET_ACCESS_KEY", Secret),
    ("AWS_SESSION_TOKEN", Secret),
    ("AWS_ACCOUNT_ID", Text),
    ("AWS_CREDENTIAL_EXPIRATION", Text),
    ("AWS_PROFILE", Text),
    ("AWS_CONFIG_FILE", Text),
    ("AWS_SHARED_CREDENTIALS_FILE", Text),
    ("AWS_ROLE_ARN", RoleArn),
    ("AWS_ROLE_SESSION_NAME", Text),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", File),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", UrlPath),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Url),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", Secret),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", File),
    ("AWS_EC2_METADATA_DISABLED", Flag),
    ("AWS_EC2_METADATA_V1_DISABLED", Flag),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", Url),
    (
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        OneOf(&["IPv4", "IPv6"]),
    ),
    ("AWS_LOGIN_CACHE_DIRECTORY", Text),
    ("AWS_MAX_ATTEMPTS", AtLeast(1)),
    ("AWS_RETRY_MODE", RETRY_MODES),
    ("AWS_SDK_UA_APP_ID", Text),
    ("AWS_EXECUTION_ENV", Text),
    ("AWS_AUTH_SCHEME_PREFERENCE", Text),
    ("AWS_SIGV4A_SIGNING_REGION_SET", Text),
    ("AWS_DISABLE_REQUEST_COMPRESSION", Flag),
    ("AWS_DISABLE_CLOCK_SKEW_CORRECTION", Flag),
    ("AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", AtLeast(0)),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", CHECKSUMS),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", CHECKSUMS),
    ("AWS_CA_BUNDLE", Certificates),
    ("SSL_CERT_FILE", Certificates),
    ("SSL_CERT_DIR", Directories),
    ("HTTPS_PROXY", Proxy),
    ("https_proxy", Proxy),
    ("HTTP_PROXY", Proxy),
    ("http_proxy", Proxy),
    ("ALL_PROXY", AnyProxy),
    ("all_proxy", AnyProxy),
    ("NO_PROXY", Text),
    ("no_proxy", Text),
];

/// Keys of the selected profile, each with the variable that wins over it.
pub(super) const PROFILE_RULES: [(&str, &str, Rule); 8] = [
    ("region", "AWS_REGION", Region),
    ("endpoint_url", "AWS_ENDPOINT_URL", Url),
    ("use_fips_endpoint", "AWS_USE_FIPS_ENDPOINT", Flag),
    ("use_dualstack_endpoint", "AWS_USE_DUALSTACK_ENDPOINT", Flag),
    ("max_attempts", "AWS_MAX_ATTEMPTS", AtLeast(1)),
    ("retry_mode", "AWS_RETRY_MODE", RETRY_MODES),
    (
        "ec2_metadata_service_endpoint",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        Url,
    ),
    ("ca_bundle", "AWS_CA_BUNDLE", Certificates),
];

impl Rule {
    /// May an error repeat the value?
    pub(super) fn may_be_shown(self) -> bool {
        !matches!(self, Secret | Proxy | AnyProxy)
    }

    /// Else what is wanted.
    pub(super) fn check(self, value: &str) -> Result<(), String> {
        let want = |fits: bool, want: &str| if fits { Ok(()) } else { Err(want.to_owned()) };
        // It would become a header of a request, which has none.
        want(!value.contains(char::is_control), "one line of text")?;
        match self {
            Text | Secret => Ok(()),
            AnyProxy if is_socks(value) => Ok(()),
            Url => want(
                is_url(value),
                "an http:// or https:// URL with a host, such as http://localhost:4566",
            ),
            Proxy | AnyProxy => want(
                is_proxy(value),
                "an http:// or https:// URL of a proxy, such as http://proxy.internal:3128",
            ),
            Region => want(is_region(value), "a region, such as eu-west-1"),
            Flag => want(
                ["true", "false"]
                    .iter()
                    .any(|flag| value.eq_ignore_ascii_case(flag)),
                "true or false",
            ),
            AtLeast(least) => want(
                value.parse::<u32>().is_ok_and(|number| number >= least),
                &format!("a whole number of at least {least}"),
            ),
            OneOf(words) => want(
                words.iter().any(|word| value.eq_ignore_ascii_case(word)),
                &words.join(" or "),
            ),
            RoleArn => want(
                value.starts_with("arn:") && value.contains(":role/"),
                "the ARN of a role, such as arn:aws:iam::111122223333:role/scaler",
            ),
            UrlPath => want(
                value.starts_with('/') && value.parse::<Uri>().is_ok(),
                "a path that starts with /",
            ),
            File => fs::read(value)
                .map(drop)
                .map_err(|error| format!("a file that can be read: {error}")),
            Certificates => trust::read(value)
                .map(drop)
                .map_err(|why| format!("a file with certificates in PEM: {why}")),
            Directories => env::split_paths(value)
                .filter(|path| !path.as_os_str().is_empty())
                .try_for_each(|path| fs::read_dir(path).map(drop))
                .map_err(|error| format!("directories that can be read: {error}")),
        }
    }
}

fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.authority().is_some_and(has_usable_port)
}

/// One that is no port, such as 99999, would count as none.
fn has_usable_port(authority: &Authority) -> bool {
    let text = authority.as_str();
    let place = text.rsplit_once('@').map_or(text, |(_, place)| place);
    place.strip_prefix(authority.host()) == Some("") || authority.port_u16().is_some()
}

/// A bare word is more likely a mistake than a proxy at port 80.
fn is_proxy(text: &str) -> bool {
    if text.contains("://") {
        return is_url(text);
    }
    let authority = text.parse::<Authority>();
    authority.is_ok_and(|it| !it.host().is_empty() && it.port().is_some())
}

/// A proxy that does not speak HTTP.
pub(crate) fn is_socks(text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.to_ascii_lowercase().starts_with("socks")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Url, &["http://localhost:4566", "https://kinesis.eu-west-1.amazonaws.com/", "http://u:p@[::1]/a", "http://[::1]:1"], &["x", "http://", "localhost:4566", "ftp://x", "/a", "http://x:99999", "http://u@x:"])]
    #[case(Proxy, &["http://u:p@proxy:3128", "proxy.internal:3128", "https://proxy"], &["x", "http://", "socks5://proxy:1"])]
    #[case(Region, &["eu-west-1", "us-gov-west-1", "eusc-de-east-1", "us-isob-east-1"], &["x", "http://", "EU-WEST-1", "-"])]
    #[case(Flag, &["true", "False"], &["x", "1", "yes"])]
    #[case(AtLeast(1), &["1", "30"], &["0", "-1", "x"])]
    #[case(AnyProxy, &["http://proxy:1", "socks5h://127.0.0.1:1080"], &["x", "http://"])]
    #[case(RETRY_MODES, &["standard", "Adaptive", "legacy"], &["x"])]
    #[case(RoleArn, &["arn:aws-cn:iam::111122223333:role/x"], &["x", "http://", "arn:aws:iam::1:user/x"])]
    #[case(UrlPath, &["/v2/credentials"], &["x", "http://"])]
    #[case(File, &["/dev/null"], &["/nonexistent", "x"])]
    #[case(Secret, &["a b", "é"], &["a\nb", "a\0"])]
    #[case(Directories, &["/", "/:/tmp", "/:"], &["x", "/:/nonexistent", "/dev/null"])]
    #[case(Certificates, &[], &["/nonexistent", "/dev/null", "x"])]
    fn what_a_variable_may_say(#[case] rule: Rule, #[case] right: &[&str], #[case] wrong: &[&str]) {
        for value in right {
            assert_eq!(rule.check(value), Ok(()), "{value}");
        }
        for value in wrong {
            assert!(rule.check(value).is_err(), "{value}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_repeated() {
        assert!(!Proxy.may_be_shown() && !Secret.may_be_shown() && Url.may_be_shown());
    }
}
