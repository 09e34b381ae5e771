//! What stands around a trigger in its object, and whether its answer alone says how many replicas
//! there will be.

use serde_json::Value;

/// KEDA's, where the object names none.
const DEFAULT_MAX: i64 = 100;

/// What of the object bears on the number of replicas.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Scaling {
    pub(super) job: bool,
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
    pub(super) idle: Option<i64>,
    /// All of the object's triggers, also other scalers'.
    pub(super) triggers: usize,
    pub(super) metric_type: Option<String>,
    pub(super) formula: bool,
    /// The annotation that pauses it.
    pub(super) paused: Option<String>,
    /// Failures in a row and the replicas after them.
    pub(super) fallback: Option<(Value, Value)>,
}

/// What an answer comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Outcome {
    /// The replicas of the whole object, where the answer alone says them.
    pub(super) replicas: Option<i64>,
    /// Activity, and the replicas or why they are not said.
    pub(super) words: String,
    /// What else decides.
    pub(super) left_out: Vec<String>,
}

impl Scaling {
    /// Of a ScaledObject or ScaledJob. What is wrong in it, for which KEDA refuses it.
    pub(super) fn of_object(object: &Value, trigger: &Value) -> (Self, Vec<String>) {
        let spec = &object["spec"];
        let mut wrong = Vec::new();
        let mut count = |key: &str| match &spec[key] {
            Value::Null => None,
            value => match value.as_i64().filter(|it| *it >= 0) {
                Some(count) => Some(count),
                None => {
                    wrong.push(format!(
                        "{key} is {value}: want a whole number of at least 0"
                    ));
                    None
                }
            },
        };
        let (min, max) = (count("minReplicaCount"), count("maxReplicaCount"));
        let idle = count("idleReplicaCount");
        let highest = max.unwrap_or(DEFAULT_MAX);
        let job = object["kind"] == "ScaledJob";
        if highest == 0 && !job {
            wrong.push("maxReplicaCount is 0: want at least 1, as every HPA has".to_owned());
        }
        if min.is_some_and(|min| min > highest) {
            wrong.push(format!(
                "minReplicaCount is {}: want at most maxReplicaCount, {highest}",
                min.unwrap_or_default()
            ));
        }
        if let Some(idle) = idle.filter(|idle| *idle >= min.unwrap_or(0)) {
            wrong.push(format!(
                "idleReplicaCount is {idle}: want less than minReplicaCount, {}",
                min.unwrap_or(0)
            ));
        }
        let metric_type = trigger["metricType"].as_str().map(str::to_owned);
        if let Some(other) = metric_type.as_deref()
            && !["", "AverageValue", "Value"].contains(&other)
        {
            wrong.push(format!(
                "metricType {other:?}: want AverageValue or Value, as for every external scaler"
            ));
        }
        let fallback = &spec["fallback"];
        let formula = spec["advanced"]["scalingModifiers"]["formula"].as_str();
        let scaling = Self {
            job,
            min,
            max,
            idle,
            triggers: spec["triggers"].as_array().map_or(1, Vec::len),
            metric_type,
            formula: formula.is_some_and(|formula| !formula.trim().is_empty()),
            paused: paused(&object["metadata"]["annotations"]),
            fallback: fallback.is_object().then(|| {
                let field = |key: &str| fallback[key].clone();
                (field("failureThreshold"), field("replicas"))
            }),
        };
        (scaling, wrong)
    }

    /// What the answer comes to. `replicas`: value by target, rounded up.
    pub(super) fn outcome(&self, replicas: i64, active: bool) -> Outcome {
        let activity = if active { "active" } else { "not active" };
        let mut left_out = Vec::new();
        if let Some(paused) = &self.paused {
            left_out.push(format!("paused by the annotation {paused}"));
        }
        if self.formula {
            left_out
                .push("scalingModifiers.formula decides, of the values of all triggers".to_owned());
        } else if self.triggers > 1 {
            left_out.push(format!(
                "it has {} triggers: the one that asks for most decides, and it is active when one is",
                self.triggers
            ));
        }
        if self.job {
            left_out.push(format!(
                "a ScaledJob starts jobs by its scalingStrategy: for value / target, less those that run, and at most {}",
                self.max.unwrap_or(DEFAULT_MAX)
            ));
        } else if self.metric_type.as_deref() == Some("Value") {
            left_out.push(
                "metricType Value: the HPA multiplies value / target by the replicas that run"
                    .to_owned(),
            );
        }
        if !left_out.is_empty() {
            return Outcome {
                replicas: None,
                words: activity.to_owned(),
                left_out,
            };
        }
        let (min, max) = (self.min.unwrap_or(0), self.max.unwrap_or(DEFAULT_MAX));
        if !active && (min == 0 || self.idle.is_some()) {
            let idle = self.idle.unwrap_or(0);
            let words = match self.idle {
                Some(idle) => format!("not active: replicas {idle}, as idleReplicaCount says"),
                None => "not active: nothing is started from zero".to_owned(),
            };
            return Outcome {
                replicas: Some(idle),
                words,
                left_out,
            };
        }
        let asked = if active { replicas.max(1) } else { replicas };
        // KEDA makes no HPA with fewer than one.
        let capped = asked.max(min.max(1)).min(max);
        let why = match () {
            () if capped < asked && self.max.is_none() => {
                format!(" (of {asked}; maxReplicaCount is {max} by default)")
            }
            () if capped < asked => format!(" (of {asked}; maxReplicaCount is {max})"),
            () if capped > asked && min > 0 => format!(" (not {asked}; minReplicaCount is {min})"),
            () => String::new(),
        };
        Outcome {
            replicas: Some(capped),
            words: format!("{activity}: replicas {capped}{why}"),
            left_out,
        }
    }

    /// Without an object.
    pub(super) fn outcome_alone(replicas: i64, active: bool) -> Outcome {
        let unbounded = Self {
            max: Some(i64::MAX),
            triggers: 1,
            ..Self::default()
        };
        let mut outcome = unbounded.outcome(replicas, active);
        let left_out = "of this trigger alone: no ScaledObject is given, whose minReplicaCount and maxReplicaCount hold";
        outcome.left_out.push(left_out.to_owned());
        outcome
    }

    /// What `fallback` makes of an error. It needs the spec of the metric, which wrong metadata do
    /// not have.
    pub(super) fn fallback_words(&self, has_spec: bool) -> Option<String> {
        let (failures, replicas) = self.fallback.as_ref()?;
        Some(match has_spec {
            true => format!(
                "fallback: {replicas} replicas once it fails more than {failures} times in a row"
            ),
            false => "fallback never begins: GetMetricSpec fails as well".to_owned(),
        })
    }
}

/// The annotation that holds the number of replicas, with its value.
fn paused(annotations: &Value) -> Option<String> {
    const REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
    let names = [
        REPLICAS,
        "autoscaling.keda.sh/paused",
        "autoscaling.keda.sh/paused-scale-in",
        "autoscaling.keda.sh/paused-scale-out",
    ];
    names.iter().find_map(|name| {
        let value = &annotations[*name];
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        // As Go reads it.
        let says_false = ["0", "f", "F", "false", "False", "FALSE"].contains(&text.as_str());
        let off = value.is_null() || (says_false && *name != REPLICAS);
        (!off).then(|| format!("{name}: {text}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scaling(spec: Value) -> Scaling {
        let object = json!({"kind": "ScaledObject", "spec": spec});
        let (scaling, wrong) = Scaling::of_object(&object, &json!({}));
        assert!(wrong.is_empty(), "{wrong:?}");
        scaling
    }

    #[test]
    fn bounds_are_applied_where_the_answer_decides() {
        let plain = scaling(json!({"triggers": [{}]}));
        let words = |scaling: &Scaling, replicas, active| scaling.outcome(replicas, active).words;
        assert_eq!(words(&plain, 5, true), "active: replicas 5");
        assert_eq!(words(&plain, 0, true), "active: replicas 1");
        assert_eq!(
            words(&plain, 0, false),
            "not active: nothing is started from zero"
        );
        assert_eq!(
            words(&plain, 150, true),
            "active: replicas 100 (of 150; maxReplicaCount is 100 by default)"
        );
        let bounded = scaling(json!({"minReplicaCount": 2, "maxReplicaCount": 3}));
        assert_eq!(
            words(&bounded, 5, true),
            "active: replicas 3 (of 5; maxReplicaCount is 3)"
        );
        assert_eq!(
            words(&bounded, 1, true),
            "active: replicas 2 (not 1; minReplicaCount is 2)"
        );
        assert_eq!(words(&bounded, 3, false), "not active: replicas 3");
        let idle = scaling(json!({"minReplicaCount": 2, "idleReplicaCount": 0}));
        assert_eq!(idle.outcome(3, false).replicas, Some(0));
    }

    #[test]
    fn what_keda_refuses_is_named() {
        for (spec, says) in [
            (json!({"maxReplicaCount": "3"}), "maxReplicaCount is \"3\""),
            (json!({"maxReplicaCount": 0}), "maxReplicaCount is 0"),
            (
                json!({"minReplicaCount": 5, "maxReplicaCount": 3}),
                "at most maxReplicaCount, 3",
            ),
            (
                json!({"idleReplicaCount": 1, "minReplicaCount": 1}),
                "less than minReplicaCount, 1",
            ),
        ] {
            let object = json!({"kind": "ScaledObject", "spec": spec});
            let (_, wrong) = Scaling::of_object(&object, &json!({}));
            assert!(wrong.len() == 1 && wrong[0].contains(says), "{wrong:?}");
        }
    }
}
