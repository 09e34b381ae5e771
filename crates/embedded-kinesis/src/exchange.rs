//! One call from request to answer: what it is, who makes it, what fault it meets, what it does.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use crate::calls::Call;
use crate::event_stream;
use crate::faults::{Fault, Trouble};
use crate::operations::{Content, Request};
use crate::protocol::{AwsError, Wire};
use crate::sts::{self, Form};
use crate::world::{Caller, World};

/// Path of the credentials endpoint.
pub(crate) const CONTAINER_CREDENTIALS: &str = "/v1/credentials";
const TARGET_PREFIX: &str = "Kinesis_20131202.";
/// Of names that strangers choose and that are kept.
const LONGEST_NAME: usize = 256;

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Content,
}

impl Output {
    fn ok(content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: Content::Whole(body),
        }
    }

    pub(crate) fn too_large() -> Self {
        let error = AwsError {
            status: 413,
            ..AwsError::new(
                "RequestEntityTooLarge",
                "The request is larger than 20 MiB.",
            )
        };
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Self::ok(Wire::Json.content_type(), error.encode(Wire::Json))
        }
    }
}

/// How a call ends.
#[derive(Debug)]
pub(crate) enum Ending {
    Answer(Output),
    HalfAnswer(Output),
    /// At so many bytes a second.
    SlowAnswer(Output, u32),
    /// An event stream with trouble after so many events.
    TroubledAnswer(Output, u32, Trouble),
    /// With a `Date` that is off by so many seconds.
    WrongDate(Output, i64),
    Reset,
    BrokenOff,
}

/// What is asked for, by protocol.
enum Task<'a> {
    Kinesis {
        wire: Wire,
        request: Result<Request, AwsError>,
    },
    Sts {
        form: Form,
    },
    ContainerCredentials {
        token: &'a str,
    },
    Unknown,
}

pub(crate) struct Exchange<'a> {
    world: &'a Arc<World>,
    operation: String,
    stream: Option<String>,
    task: Task<'a>,
    caller: Result<Caller, AwsError>,
}

/// Access key ID and region of a signature's credential scope.
fn scope(authorization: &str) -> Option<(&str, &str)> {
    let credential = authorization
        .split_once("Credential=")?
        .1
        .split([',', ' '])
        .next()?;
    let mut parts = credential.split('/');
    let (access_key_id, _date, region) = (parts.next()?, parts.next()?, parts.next()?);
    let good = [access_key_id, region]
        .iter()
        .all(|it| !it.is_empty() && it.len() <= LONGEST_NAME);
    good.then_some((access_key_id, region))
}

impl<'a> Exchange<'a> {
    /// Reads and records a call.
    pub(crate) fn new(world: &'a Arc<World>, head: &'a Parts, body: &[u8]) -> Self {
        let header = |name: &HeaderName| {
            head.headers
                .get(name)
                .and_then(|it| it.to_str().ok())
                .unwrap_or_default()
        };
        let authorization = header(&AUTHORIZATION);
        let content_type = header(&CONTENT_TYPE);
        let target = header(&HeaderName::from_static("x-amz-target"));
        let (operation, task) = if let Some(operation) = target.strip_prefix(TARGET_PREFIX) {
            let wire = Wire::of(content_type);
            (
                operation,
                Task::Kinesis {
                    wire,
                    request: Request::parse(operation, wire, body),
                },
            )
        } else if head.method == Method::GET && head.uri.path() == CONTAINER_CREDENTIALS {
            (
                "GetContainerCredentials",
                Task::ContainerCredentials {
                    token: authorization,
                },
            )
        } else if head.method == Method::POST
            && content_type.starts_with("application/x-www-form-urlencoded")
        {
            (
                "",
                Task::Sts {
                    form: Form::parse(body),
                },
            )
        } else {
            ("Unknown", Task::Unknown)
        };
        let operation = match &task {
            Task::Sts { form } => form.field("Action").unwrap_or("Unknown"),
            _ => operation,
        };
        let operation: String = operation.chars().take(LONGEST_NAME).collect();

        let config = world.config();
        let scope = scope(authorization);
        let caller = match scope {
            Some((access_key_id, region)) => {
                let token = head
                    .headers
                    .get("x-amz-security-token")
                    .and_then(|it| it.to_str().ok());
                let signed = head.headers.get("x-amz-date");
                let signed = signed.and_then(|it| it.to_str().ok());
                let now = world.clock.now();
                crate::clock::in_time(signed, now, config.signature_skew).and_then(|()| {
                    let identities = &world.identities;
                    identities.caller(&config, access_key_id, region, token, now)
                })
            }
            None => Err(AwsError {
                status: 403,
                ..AwsError::new(
                    "MissingAuthenticationTokenException",
                    "Missing Authentication Token",
                )
            }),
        };
        let (access_key_id, region) = scope.unwrap_or(("", &config.region));
        let (stream, form) = match &task {
            Task::Kinesis {
                request: Ok(request),
                ..
            } => (request.stream(world), None),
            Task::Sts { form } => (None, Some(form)),
            _ => (None, None),
        };
        let stream: Option<String> = stream.map(|it| it.chars().take(LONGEST_NAME).collect());
        let form_field = |name| form.and_then(|form| form.field(name)).map(str::to_owned);
        world.calls.record(Call {
            operation: operation.clone(),
            access_key_id: access_key_id.to_owned(),
            account: world.identities.account(&config, access_key_id),
            region: region.to_owned(),
            stream: stream.clone(),
            at: tokio::time::Instant::now(),
            role_arn: form_field("RoleArn"),
            external_id: form_field("ExternalId"),
            web_identity_token: form_field("WebIdentityToken"),
            user_agent: header(&USER_AGENT).to_owned(),
            http2: head.version == Version::HTTP_2,
        });
        Self {
            world,
            operation,
            stream,
            task,
            caller,
        }
    }

    /// Answers it, or does not, as the fault it meets says.
    pub(crate) async fn run(mut self) -> Ending {
        let world = self.world;
        let on = match &self.task {
            Task::Sts { form } => form.field("RoleArn"),
            _ => self.stream.as_deref(),
        };
        match world.faults.take(&self.operation, on) {
            None => Ending::Answer(self.perform()),
            Some(Fault::EmptyPage) => {
                if let Task::Kinesis {
                    request: Ok(request),
                    ..
                } = &mut self.task
                {
                    request.empty_page();
                }
                Ending::Answer(self.perform())
            }
            Some(Fault::Aws {
                code,
                message,
                status,
            }) => Ending::Answer(self.fail(&AwsError {
                code,
                message,
                status,
            })),
            Some(Fault::Status(status)) => {
                let status =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                Ending::Answer(Output {
                    status,
                    content_type: "text/html",
                    body: Content::Whole(Vec::new()),
                })
            }
            Some(Fault::Garbage) => Ending::Answer(Output {
                body: Content::Whole(b"\x00\xff<<<{[garbage".to_vec()),
                ..self.empty()
            }),
            Some(Fault::EmptyJson) => Ending::Answer(self.empty()),
            Some(Fault::Reset) => Ending::Reset,
            Some(Fault::LoseAnswer) => {
                self.perform();
                Ending::Reset
            }
            Some(Fault::HalfBody) => Ending::HalfAnswer(self.perform()),
            Some(Fault::Slow(rate)) => Ending::SlowAnswer(self.perform(), rate),
            Some(Fault::Events { after, then }) => {
                Ending::TroubledAnswer(self.perform(), after, then)
            }
            Some(Fault::WrongDate(seconds)) => Ending::WrongDate(self.perform(), seconds),
            Some(Fault::Delay(delay)) => {
                let output = self.perform();
                hold(world, Some(delay))
                    .await
                    .map_or(Ending::BrokenOff, |()| Ending::Answer(output))
            }
            Some(Fault::Hang) => {
                // Ends when the server stops; when the client goes away, hyper drops this future.
                let _ = hold(world, None).await;
                Ending::BrokenOff
            }
        }
    }

    /// A 200 that says nothing.
    fn empty(&self) -> Output {
        match &self.task {
            Task::Kinesis {
                wire: Wire::Cbor, ..
            } => Output::ok(Wire::Cbor.content_type(), vec![0xa0]),
            _ => Output::ok(self.content_type(), b"{}".to_vec()),
        }
    }

    fn content_type(&self) -> &'static str {
        match &self.task {
            Task::Kinesis { wire, .. } => wire.content_type(),
            Task::Sts { .. } => "text/xml",
            Task::ContainerCredentials { .. } | Task::Unknown => "application/json",
        }
    }

    /// An error in the shape of the protocol.
    fn fail(&self, error: &AwsError) -> Output {
        let body = match &self.task {
            Task::Kinesis { wire, .. } => error.encode(*wire),
            Task::Sts { .. } => sts::error(error).into_bytes(),
            Task::ContainerCredentials { .. } | Task::Unknown => error.encode(Wire::Json),
        };
        let status =
            StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Output {
            status,
            ..Output::ok(self.content_type(), body)
        }
    }

    fn perform(&mut self) -> Output {
        let world = self.world;
        let nobody = Err(AwsError::internal("performed twice"));
        let caller = std::mem::replace(&mut self.caller, nobody);
        let body = match &mut self.task {
            Task::Unknown => Err(AwsError {
                status: 404,
                ..AwsError::new(
                    "UnknownOperationException",
                    "Nothing is served under this method and path.",
                )
            }),
            Task::ContainerCredentials { token } => {
                sts::container_credentials(world, token).map(Content::Whole)
            }
            Task::Sts { form } => sts::perform(world, caller, form)
                .map(String::into_bytes)
                .map(Content::Whole),
            Task::Kinesis { wire, request } => {
                let wire = *wire;
                let request =
                    std::mem::replace(request, Err(AwsError::internal("performed twice")));
                let called = Called {
                    operation: &self.operation,
                    stream: self.stream.as_deref(),
                };
                kinesis(world, called, caller, wire, request)
            }
        };
        match body {
            Ok(Content::Whole(body)) => Output::ok(self.content_type(), body),
            Ok(events @ Content::Events(_)) => Output {
                status: StatusCode::OK,
                content_type: event_stream::CONTENT_TYPE,
                body: events,
            },
            Err(error) => self.fail(&error),
        }
    }
}

/// What the rates of the control plane go by.
#[derive(Clone, Copy)]
struct Called<'a> {
    operation: &'a str,
    stream: Option<&'a str>,
}

fn kinesis(
    world: &Arc<World>,
    called: Called<'_>,
    caller: Result<Caller, AwsError>,
    wire: Wire,
    request: Result<Request, AwsError>,
) -> Result<Content, AwsError> {
    let caller = caller?;
    let request = request?;
    if world.config().api_limits {
        world.limits.check(
            called.operation,
            &caller.account,
            &caller.region,
            called.stream,
            world.clock.now(),
        )?;
    }
    request.perform(world, &caller, wire)
}

/// Keeps a call waiting; `None` when the server stops meanwhile.
async fn hold(world: &World, delay: Option<Duration>) -> Option<()> {
    let _held = world.calls.hold();
    let over = async {
        match delay {
            Some(delay) => tokio::time::sleep(delay).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => Some(()),
        () = world.closing.cancelled() => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::scope;

    #[rstest]
    #[case("AWS4-HMAC-SHA256 Credential=AKID/20261123/eu-west-1/kinesis/aws4_request, SignedHeaders=host, Signature=0", Some(("AKID", "eu-west-1")))]
    #[case("AWS4-HMAC-SHA256 Credential=AKID", None)]
    #[case("Bearer x", None)]
    #[case("", None)]
    fn scopes(#[case] header: &str, #[case] wanted: Option<(&str, &str)>) {
        assert_eq!(scope(header), wanted);
    }
}
