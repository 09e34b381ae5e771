//! The consumer that an application subscribes with: registered once, by whoever comes first, and
//! never deregistered. Other workers of the application use it, too.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    edge::kinesis::{Consumer, ConsumerStatus, KinesisError},
    face::{config::FanOut, event::Event},
    run::{
        context::{Context, backoff, pause},
        registration::Known,
        stream::Stream,
    },
};

const DESCRIBE: &str = "DescribeStreamConsumer";
const REGISTER: &str = "RegisterStreamConsumer";

/// The time between looks whether a consumer is made.
const LOOK: Duration = Duration::from_secs(1);
/// So many times in a row the stream must have too many consumers. AWS says so also of more than
/// five that are being made, which passes.
const REFUSALS: u32 = 5;

/// The consumer's ARN. `None`: there can be none, and the settings allow to poll.
pub(super) async fn consumer(
    context: &Context,
    stream: &Stream,
    fan_out: &FanOut,
) -> Option<Arc<str>> {
    let found = find(context, stream, fan_out);
    stream.registration.arn(found).await
}

async fn find(context: &Context, stream: &Stream, fan_out: &FanOut) -> Known {
    let name = fan_out.consumer.as_deref();
    let name = name.unwrap_or(&context.config.application);
    if name.starts_with("arn:") {
        return Known::Registered(name.into());
    }
    let mut waits = backoff(LOOK, Duration::from_secs(30));
    let mut refusals = 0;
    loop {
        match stream.kinesis.consumer(name).await {
            Ok(Some(Consumer {
                arn,
                status: ConsumerStatus::Active,
            })) => {
                stream.call_succeeded(DESCRIBE);
                stream.call_succeeded(REGISTER);
                return Known::Registered(arn.into());
            }
            Ok(Some(_)) => {
                sleep(LOOK).await;
                continue;
            }
            Ok(None) => stream.call_succeeded(DESCRIBE),
            Err(error) => {
                stream.call_failed(None, DESCRIBE, &error);
                pause(&mut waits).await;
                continue;
            }
        }
        match stream.kinesis.register_consumer(name).await {
            Ok(_) => {
                let consumer = name.to_owned();
                context.report(Event::ConsumerRegistered { consumer });
                continue;
            }
            // Another worker was quicker.
            Err(KinesisError::InUse(_)) => {}
            Err(error @ KinesisError::LimitExceeded(_)) if fan_out.or_polling => {
                refusals += 1;
                let (consumer, error) = (name.to_owned(), error.to_string());
                if refusals == REFUSALS {
                    context.report(Event::FellBackToPolling { consumer, error });
                    return Known::Refused;
                }
                // It ends nothing, so it is not told as failing.
                context.report(Event::Retrying {
                    shard: None,
                    operation: REGISTER,
                    error,
                });
            }
            Err(error) => stream.call_failed(None, REGISTER, &error),
        }
        pause(&mut waits).await;
    }
}
