//! STS: the query protocol (a form in, XML out), and the credentials endpoint of EKS Pod Identity
//! (JSON out).

use std::time::Duration;

use serde::Serialize;

use crate::clock::iso8601;
use crate::identities::{Credentials, Role};
use crate::protocol::{AwsError, Wire};
use crate::world::{Caller, World};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// A form that has been read. Not `Debug`: it may hold a token.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    pub(crate) fn parse(body: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(body).into_owned().collect())
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &str) -> Result<&str, AwsError> {
        self.field(name).filter(|it| !it.is_empty()).ok_or_else(|| {
            let mut field = name.to_owned();
            field[..1].make_ascii_lowercase();
            AwsError::new("ValidationError", format!("1 validation error detected: Value null at '{field}' failed to satisfy constraint: Member must not be null"))
        })
    }
}

pub(crate) fn perform(
    world: &World,
    caller: Result<Caller, AwsError>,
    form: &Form,
) -> Result<String, AwsError> {
    match form.field("Action").unwrap_or_default() {
        "GetCallerIdentity" => Ok(identity(&caller.map_err(as_sts)?)),
        "AssumeRole" => assume_role(world, &caller.map_err(as_sts)?, form),
        "AssumeRoleWithWebIdentity" => assume_role_with_web_identity(world, form),
        other => Err(AwsError::new(
            "InvalidAction",
            format!("Could not find operation {other} for version 2011-06-15"),
        )),
    }
}

/// STS names these two otherwise, and answers 403.
fn as_sts(error: AwsError) -> AwsError {
    let code = match error.code.as_str() {
        "ExpiredTokenException" => "ExpiredToken",
        "UnrecognizedClientException" => "InvalidClientTokenId",
        _ => &error.code,
    };
    AwsError {
        code: code.to_owned(),
        status: 403,
        message: error.message,
    }
}

fn identity(caller: &Caller) -> String {
    let (account, arn) = (escape(&caller.account), escape(&caller.arn));
    answer(
        "GetCallerIdentity",
        &format!(
            "<Arn>{arn}</Arn><UserId>AIDAEMBEDDEDKINESIS00</UserId><Account>{account}</Account>"
        ),
    )
}

fn assume_role(world: &World, caller: &Caller, form: &Form) -> Result<String, AwsError> {
    let role_arn = form.required("RoleArn")?;
    let external_id = form.field("ExternalId");
    let identities = &world.identities;
    if identities.is_denied(role_arn) || !identities.takes_external_id(role_arn, external_id) {
        return Err(denied(&format!(
            "User: {} is not authorized to perform: sts:AssumeRole on resource: {role_arn}",
            caller.arn
        )));
    }
    let given = session(world, role_arn, form)?;
    Ok(answer("AssumeRole", &credentials(&given)))
}

fn assume_role_with_web_identity(world: &World, form: &Form) -> Result<String, AwsError> {
    let role_arn = form.required("RoleArn")?;
    let token = form.required("WebIdentityToken")?;
    if !world.identities.takes_web_identity_token(token) {
        return Err(AwsError::new(
            "InvalidIdentityToken",
            "The web identity token that was passed could not be validated by AWS. Get a new token from the identity provider.",
        ));
    }
    if world.identities.is_denied(role_arn) {
        return Err(denied(
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        ));
    }
    let given = session(world, role_arn, form)?;
    let inside = format!(
        "<SubjectFromWebIdentityToken>system:serviceaccount:embedded:kinesis</SubjectFromWebIdentityToken><Audience>sts.amazonaws.com</Audience>{}",
        credentials(&given)
    );
    Ok(answer("AssumeRoleWithWebIdentity", &inside))
}

fn denied(message: &str) -> AwsError {
    AwsError {
        status: 403,
        ..AwsError::new("AccessDenied", message)
    }
}

fn session(world: &World, role_arn: &str, form: &Form) -> Result<Credentials, AwsError> {
    let role = Role::parse(role_arn)
        .ok_or_else(|| AwsError::new("ValidationError", format!("{role_arn} is invalid")))?;
    let name = form.required("RoleSessionName")?;
    if name.len() < 2
        || name.len() > 64
        || !name
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || b"_+=,.@-".contains(&it))
    {
        let text = "1 validation error detected: Value at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]{2,64}";
        return Err(AwsError::new("ValidationError", text));
    }
    let asked = form.field("DurationSeconds").map(|text| {
        text.parse()
            .ok()
            .filter(|secs| (900..=43_200).contains(secs))
    });
    let asked = match asked {
        None => 3600,
        Some(Some(secs)) => secs,
        Some(None) => {
            return Err(AwsError::new(
                "ValidationError",
                "DurationSeconds must be a whole number from 900 to 43200.",
            ));
        }
    };
    let lifetime = Duration::from_secs(asked).min(world.config().session_lifetime);
    Ok(world
        .identities
        .open_session(&role, name, lifetime, world.clock.now()))
}

fn credentials(given: &Credentials) -> String {
    format!(
        "<AssumedRoleUser><AssumedRoleId>{}</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser>\
         <Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials>",
        escape(&given.role_id),
        escape(&given.session_arn),
        given.access_key_id,
        given.secret_access_key,
        given.session_token,
        iso8601(given.expires)
    )
}

fn answer(action: &str, inside: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{inside}</{action}Result>\
         <ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata></{action}Response>"
    )
}

pub(crate) fn error(error: &AwsError) -> String {
    let side = if error.status < 500 {
        "Sender"
    } else {
        "Receiver"
    };
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{side}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>",
        escape(&error.code),
        escape(&error.message)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerCredentials<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    account_id: &'a str,
    expiration: String,
}

/// `GET /v1/credentials`, as the agent on an EKS node answers it.
pub(crate) fn container_credentials(world: &World, token: &str) -> Result<Vec<u8>, AwsError> {
    let refused = || AwsError {
        status: 401,
        ..AwsError::new(
            "AccessDeniedException",
            "The service account token cannot be authenticated.",
        )
    };
    let role_arn = world.identities.container_role(token).ok_or_else(refused)?;
    if world.identities.is_denied(&role_arn) {
        return Err(denied(
            "The role behind these credentials may not be assumed.",
        ));
    }
    let role = Role::parse(&role_arn)
        .ok_or_else(|| AwsError::internal(format!("{role_arn} is no role ARN")))?;
    let given = world.identities.open_session(
        &role,
        "eks-embedded",
        world.config().session_lifetime,
        world.clock.now(),
    );
    Wire::Json.write(&ContainerCredentials {
        access_key_id: &given.access_key_id,
        secret_access_key: &given.secret_access_key,
        token: &given.session_token,
        account_id: &given.account,
        expiration: iso8601(given.expires),
    })
}
