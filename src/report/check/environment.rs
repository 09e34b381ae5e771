//! What KEDA makes of `…FromEnv`: it looks the variable up in the container that is scaled.

use std::collections::HashMap;

use serde_json::Value;

use super::documents::Object;
use crate::trigger::{KEYS, given::FROM_ENV};

/// The variables of the container that a trigger's object scales.
#[derive(Debug)]
pub(super) struct Environment<'a> {
    /// `--env`, which wins.
    pub(super) given: &'a HashMap<String, String>,
    /// The container; an error: why it is not at hand.
    pub(super) container: Result<&'a Value, String>,
}

/// A variable, as far as it is known.
enum Variable {
    Value(String),
    /// KEDA leaves the key out.
    Absent,
    /// Only the cluster knows; why.
    Elsewhere(String),
}

impl<'a> Environment<'a> {
    /// Of the object's scale target, where the files hold it.
    pub(super) fn of_object(
        object: &'a Value,
        objects: &'a [Object],
        given: &'a HashMap<String, String>,
    ) -> Self {
        let container = if object["kind"] == "ScaledJob" {
            let job = &object["spec"]["jobTargetRef"]["template"]["spec"];
            find_container(job, &object["spec"]["envSourceContainerName"])
        } else {
            let target = &object["spec"]["scaleTargetRef"];
            let kind = target["kind"].as_str().unwrap_or("Deployment");
            let name = target["name"].as_str().unwrap_or_default();
            let is_target = |it: &&Object| {
                it.value["kind"] == kind
                    && it.value["metadata"]["name"] == name
                    && namespace(&it.value) == namespace(object)
            };
            match objects.iter().find(is_target) {
                Some(found) => {
                    let pod = &found.value["spec"]["template"]["spec"];
                    find_container(pod, &target["envSourceContainerName"])
                }
                None if name.is_empty() => Err("it has no scaleTargetRef.name".to_owned()),
                None => Err(format!("the file has no {kind} {name}")),
            }
        };
        Self { given, container }
    }

    /// Puts the variables' values in place of their names, as KEDA does. What is known only in the
    /// cluster, a line a key.
    pub(super) fn resolve(&self, metadata: &mut HashMap<String, String>) -> Vec<String> {
        let mut unknown = Vec::new();
        for key in KEYS {
            let by_env = format!("{}{FROM_ENV}", key.name);
            let Some(name) = metadata.get(&by_env).map(|name| name.trim().to_owned()) else {
                continue;
            };
            match self.variable(&name) {
                Variable::Value(value) => {
                    metadata.insert(by_env, value);
                }
                Variable::Absent => {
                    metadata.remove(&by_env);
                }
                // Beside the plain key it is refused, whatever it holds.
                Variable::Elsewhere(_) if metadata.contains_key(key.name) => {}
                Variable::Elsewhere(why) => {
                    metadata.remove(&by_env);
                    unknown.push(format!(
                        "{by_env} {name:?}: known only in the cluster ({why}): want --env {name}=VALUE"
                    ));
                }
            }
        }
        unknown
    }

    fn variable(&self, name: &str) -> Variable {
        if let Some(value) = self.given.get(name) {
            return match value.is_empty() {
                true => Variable::Absent,
                false => Variable::Value(value.clone()),
            };
        }
        let container = match &self.container {
            Ok(container) => container,
            Err(why) => return Variable::Elsewhere(why.clone()),
        };
        let all = container["env"].as_array().into_iter().flatten();
        // The last of a name holds.
        match all.rev().find(|it| it["name"] == name) {
            Some(variable) if variable.get("valueFrom").is_some() => {
                Variable::Elsewhere("the container has it by valueFrom".to_owned())
            }
            Some(variable) => match variable["value"].as_str() {
                None | Some("") => Variable::Absent,
                Some(value) if value.contains("$(") => {
                    Variable::Elsewhere("it is made of other variables".to_owned())
                }
                Some(value) => Variable::Value(value.to_owned()),
            },
            None if container.get("envFrom").is_some() => {
                Variable::Elsewhere("the container may have it by envFrom".to_owned())
            }
            None => Variable::Absent,
        }
    }
}

/// As kubectl has it where the object names none.
pub(super) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default")
}

/// The named container, else the first, as KEDA has it.
fn find_container<'a>(pod: &'a Value, name: &Value) -> Result<&'a Value, String> {
    let containers = pod["containers"].as_array().map_or(&[][..], Vec::as_slice);
    match name.as_str() {
        Some(name) => containers
            .iter()
            .find(|it| it["name"] == name)
            .ok_or_else(|| format!("the scale target has no container {name}")),
        None => containers
            .first()
            .ok_or_else(|| "the scale target has no container".to_owned()),
    }
}
