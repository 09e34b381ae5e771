//! The variables and the profile by which the way to AWS is found: empty is unset, and what is
//! wrong has a name.
//!
//! The SDK takes an empty variable for a value, and panics at some. So it is given what stands
//! here, or nothing.

mod rules;
mod trust;

use std::{collections::HashMap, env, error::Error, ffi::OsString, fmt, sync::Arc};

use aws_config::profile::{self, ProfileSet};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};

pub(crate) use self::rules::is_socks;
use self::rules::{PROFILE_RULES, RULES};
use crate::proxies::Proxies;

/// A variable that the programs cannot work with. Printed as one line: its name, its value, what is
/// wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrongVariable {
    /// The variable, or the key of a profile.
    pub name: String,
    /// The value. `None`: it may be a secret.
    pub value: Option<String>,
    /// What would be right, in words that follow "want".
    pub want: String,
}

impl fmt::Display for WrongVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, want } = self;
        match value {
            Some(value) => write!(f, "{name} {value:?}: want {want}"),
            None => write!(f, "{name}: want {want}"),
        }
    }
}

/// All that is wrong in the environment. Printed as one line each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrongEnvironment(pub Vec<WrongVariable>);

impl fmt::Display for WrongEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Error for WrongEnvironment {}

/// What the environment and the selected profile say of the way to AWS.
#[derive(Clone)]
pub struct Environment {
    values: Arc<HashMap<String, String>>,
    /// Variables that are set and say nothing.
    blank: Arc<Vec<String>>,
    profile: Option<Arc<ProfileSet>>,
    files: EnvConfigFiles,
    trusted: Arc<Vec<u8>>,
    wrong: Vec<WrongVariable>,
}

/// Names alone: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.values.keys().collect();
        names.sort();
        let mut f = f.debug_struct("Environment");
        f.field("names", &names).field("wrong", &self.wrong);
        f.finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the process' environment and the profile that it selects. What is wrong counts as
    /// unset; see [`check`](Self::check).
    pub async fn load() -> Self {
        Self::of(env::vars_os().collect()).await
    }

    /// As [`load`](Self::load), of these variables.
    pub(crate) async fn of(variables: Vec<(OsString, OsString)>) -> Self {
        let mut values = HashMap::new();
        let mut blank = Vec::new();
        let mut wrong = Vec::new();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else {
                continue;
            };
            let rule = RULES.iter().find(|(known, _)| *known == name);
            let rule = rule.map(|(_, rule)| *rule);
            let Ok(value) = value.into_string() else {
                if rule.is_some() {
                    wrong.push(WrongVariable {
                        name,
                        value: None,
                        want: "text in UTF-8".to_owned(),
                    });
                }
                continue;
            };
            let Some(rule) = rule else {
                values.insert(name, value);
                continue;
            };
            let value = value.trim();
            if value.is_empty() {
                blank.push(name);
            } else if let Err(want) = rule.check(value) {
                let value = rule.may_be_shown().then(|| shortened(value));
                wrong.push(WrongVariable { name, value, want });
            } else {
                values.insert(name, value.to_owned());
            }
        }
        let mut environment = Self {
            values: Arc::new(values),
            blank: Arc::new(blank),
            profile: None,
            files: EnvConfigFiles::default(),
            trusted: Arc::default(),
            wrong,
        };
        environment.files = environment.profile_files();
        let selected = environment.get("AWS_PROFILE").map(str::to_owned);
        let loaded = profile::load(&Fs::real(), &environment.env(), &environment.files, None).await;
        environment.profile = loaded.ok().map(Arc::new);
        environment.check_profile(selected.as_deref());
        environment.trusted = Arc::new(trust::bundle(&environment));
        environment.check_combinations();
        environment.wrong.sort_by(|a, b| a.name.cmp(&b.name));
        environment
    }

    /// Is all of it as the programs can use it?
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&self) -> Result<(), WrongEnvironment> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        Err(WrongEnvironment(self.wrong.clone()))
    }

    /// As [`check`](Self::check), for a program that has its region from elsewhere.
    ///
    /// # Errors
    /// All that is wrong, but for the region.
    pub fn check_all_but_region(&self) -> Result<(), WrongEnvironment> {
        let mut wrong = self.wrong.clone();
        wrong.retain(|it| !["AWS_REGION", "AWS_DEFAULT_REGION"].contains(&it.name.as_str()));
        if wrong.is_empty() {
            return Ok(());
        }
        Err(WrongEnvironment(wrong))
    }

    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`.
    pub fn region(&self) -> Option<&str> {
        self.get("AWS_REGION")
            .or_else(|| self.get("AWS_DEFAULT_REGION"))
    }

    /// The variables whose proxies are in force: those of plain HTTP and of HTTPS.
    pub fn proxies(&self) -> Vec<&'static str> {
        Proxies::new(self).variables()
    }

    /// The value of a variable that is set, says something, and is not wrong.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Is it set, with nothing in it?
    pub(crate) fn is_blank(&self, name: &str) -> bool {
        self.blank.iter().any(|blank| blank == name)
    }

    fn is_wrong(&self, name: &str) -> bool {
        self.wrong.iter().any(|wrong| wrong.name == name)
    }

    /// A key of the selected profile that says something.
    pub(crate) fn profile_key(&self, key: &str) -> Option<&str> {
        let value = self.profile.as_ref()?.get(key)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// A variable, else a key of the profile.
    pub(crate) fn setting(&self, name: &str, key: &str) -> Option<&str> {
        self.get(name).or_else(|| self.profile_key(key))
    }

    /// As [`setting`](Self::setting), of those that are true or false.
    pub(crate) fn flag(&self, name: &str, key: &str) -> Option<bool> {
        self.setting(name, key)
            .map(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Where an instance's metadata service is, if that is said.
    pub(crate) fn instance_endpoint(&self) -> Option<&str> {
        self.setting(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "ec2_metadata_service_endpoint",
        )
    }

    /// The certificates of the authorities that are trusted (PEM).
    pub(crate) fn trusted(&self) -> &[u8] {
        &self.trusted
    }

    /// The variables as the SDK reads them: without those that are empty or wrong.
    pub(crate) fn env(&self) -> Env {
        Env::from(self.values.as_ref().clone())
    }

    pub(crate) fn profiles(&self) -> Option<&ProfileSet> {
        self.profile.as_deref()
    }

    /// The name of the profile that counts.
    pub(crate) fn profile_name(&self) -> &str {
        self.get("AWS_PROFILE").unwrap_or("default")
    }

    /// The profile files as they were when this was loaded.
    pub(crate) fn files(&self) -> EnvConfigFiles {
        self.files.clone()
    }

    /// The profile files, read at the places where the SDK looks for them: it would take a blank
    /// variable for a file without a name.
    pub(crate) fn profile_files(&self) -> EnvConfigFiles {
        let home = self.get("HOME").unwrap_or_default();
        let text = |variable, usual| {
            let path = self.get(variable).unwrap_or(usual);
            let path = match path.strip_prefix("~/") {
                Some(rest) => format!("{home}/{rest}"),
                None => path.to_owned(),
            };
            std::fs::read_to_string(path).unwrap_or_default()
        };
        let config = text("AWS_CONFIG_FILE", "~/.aws/config");
        let credentials = text("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials");
        EnvConfigFiles::builder()
            .with_contents(EnvConfigFileKind::Config, config)
            .with_contents(EnvConfigFileKind::Credentials, credentials)
            .build()
    }

    fn check_profile(&mut self, selected: Option<&str>) {
        let Some(profiles) = self.profile.clone() else {
            return;
        };
        if let Some(selected) = selected
            && selected != "default"
            && profiles.get_profile(selected).is_none()
        {
            let want =
                "a profile that the files have (AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE)";
            self.note("AWS_PROFILE", selected, want);
        }
        for (key, variable, rule) in PROFILE_RULES {
            // The variable would win.
            let Some(value) = profiles.get(key).filter(|_| self.get(variable).is_none()) else {
                continue;
            };
            if let Err(want) = rule.check(value.trim()) {
                let name = format!("{key} of the profile {}", self.profile_name());
                self.note(&name, value, &want);
            }
        }
    }

    /// Where the SDK reads a blank variable itself, and nothing can be put in its place.
    fn check_combinations(&mut self) {
        let asks = ["role_arn", "sso_session", "sso_start_url", "login_session"];
        let asks = asks.iter().any(|key| self.profile_key(key).is_some());
        for name in [
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_STS",
            "AWS_ENDPOINT_URL_SSO",
            "AWS_ENDPOINT_URL_SSO_OIDC",
            "AWS_ENDPOINT_URL_SIGNIN",
        ] {
            if asks && self.is_blank(name) {
                let want = "it unset, not empty, where a profile assumes a role or signs in";
                self.note(name, "", want);
            }
        }
        let pod = self.get("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some();
        for name in [
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ] {
            if pod && self.is_blank(name) {
                let want = "it unset, not empty, beside AWS_CONTAINER_CREDENTIALS_FULL_URI";
                self.note(name, "", want);
            }
        }
    }

    fn note(&mut self, name: &str, value: &str, want: &str) {
        self.wrong.push(WrongVariable {
            name: name.to_owned(),
            value: Some(shortened(value)),
            want: want.to_owned(),
        });
    }
}

/// Somebody else's text, as far as an error repeats it.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}
