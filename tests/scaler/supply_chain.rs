//! What the workflows, the Dockerfile and dependabot promise, read off them.

use std::{fs, path::Path};

use serde_json::Value;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&file(name)).unwrap()
}

fn workflows() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows");
    let files = fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| format!(".github/workflows/{name}"))
        .collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The steps of a job.
fn steps<'a>(workflow: &'a Value, job: &str) -> &'a [Value] {
    workflow["jobs"][job]["steps"].as_array().unwrap()
}

fn uses<'a>(steps: &'a [Value], action: &str) -> Option<&'a Value> {
    let its = |step: &&Value| {
        let used = step["uses"].as_str().unwrap_or_default();
        used.split('@').next() == Some(action)
    };
    steps.iter().find(its)
}

#[test]
fn actions_are_pinned_to_a_commit_and_say_their_version() {
    let mut found = 0;
    for name in workflows() {
        for line in file(&name).lines() {
            let line = line.trim().trim_start_matches("- ");
            let Some(action) = line.strip_prefix("uses: ") else {
                continue;
            };
            if action.starts_with("./") {
                continue;
            }
            found += 1;
            let (_, version) = action.split_once('@').unwrap();
            let (commit, version) = version.split_once(" # v").unwrap_or((version, ""));
            assert!(is_hex(commit, 40) && !version.is_empty(), "{name}: {line}");
        }
    }
    assert!(found > 5);
}

#[test]
fn base_images_are_pinned_by_digest() {
    let dockerfile = file("Dockerfile");
    let froms: Vec<_> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "))
        .collect();
    assert_eq!(froms.len(), 7);
    // There is no such image: it stands for nothing.
    for from in froms.iter().filter(|from| !from.starts_with("scratch ")) {
        let image = from.split(' ').next().unwrap();
        let digest = image.split_once("@sha256:").map(|(_, digest)| digest);
        assert!(digest.is_some_and(|digest| is_hex(digest, 64)), "{from}");
    }
}

#[test]
fn nothing_is_released_that_the_gate_did_not_pass() {
    let release = yaml(".github/workflows/release.yml");
    let ci = ".github/workflows/ci.yml";
    assert_eq!(release["jobs"]["gate"]["uses"], format!("./{ci}"));
    assert_eq!(release["jobs"]["gate"]["needs"], "version");
    assert!(
        yaml(ci)["on"]
            .as_object()
            .unwrap()
            .contains_key("workflow_call")
    );
    let runs = |step: &Value| step["run"] == ".ci/run";
    assert!(steps(&yaml(ci), "gate").iter().any(runs));
    assert_eq!(release["jobs"]["build"]["needs"], "gate");
    assert_eq!(release["jobs"]["publish"]["needs"], "build");
    for job in release["jobs"].as_object().unwrap().values() {
        assert!(
            job["if"].is_null(),
            "a condition may pass the gate by: {job}"
        );
    }
}

/// A release is then a heading with a date and a tag: the workflow compares them with these.
#[test]
fn all_that_is_released_has_one_version() {
    let manifest = file("Cargo.toml");
    let version = format!("version = {:?}", env!("CARGO_PKG_VERSION"));
    assert!(manifest.lines().any(|line| line == version));
    for chart in ["keda-kinesis-scaler", "kinesis-to-dynamodb", "embedded-aws"] {
        let chart = yaml(&format!("charts/{chart}/Chart.yaml"));
        assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn every_platforms_image_is_signed_with_sbom_and_provenance() {
    let release = yaml(".github/workflows/release.yml");
    let build = &release["jobs"]["build"];
    assert_eq!(
        build["strategy"]["matrix"]["runner"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for permission in ["id-token", "attestations", "packages"] {
        assert_eq!(build["permissions"][permission], "write", "{permission}");
    }
    let steps_of_build = steps(&release, "build");
    let image = uses(steps_of_build, "docker/build-push-action").unwrap();
    assert_eq!(image["with"]["sbom"], true);
    assert_eq!(image["with"]["provenance"], "mode=max");
    for action in ["actions/attest-sbom", "actions/attest-build-provenance"] {
        let attested = &uses(steps_of_build, action).unwrap()["with"];
        assert_eq!(
            attested["subject-digest"],
            "${{ steps.build.outputs.digest }}"
        );
        assert_eq!(attested["push-to-registry"], true);
    }
    let publish = steps(&release, "publish").iter();
    let script: String = publish.filter_map(|step| step["run"].as_str()).collect();
    assert!(
        script.contains("cosign sign --yes --recursive \"$image@$digest\""),
        "{script}"
    );
    assert!(
        script.contains("cosign sign --yes \"$REGISTRY/charts/$TARGET@"),
        "{script}"
    );
}

#[test]
fn every_static_binary_is_signed_with_sbom_and_provenance() {
    let release = yaml(".github/workflows/release.yml");
    let job = &release["jobs"]["static"];
    for permission in ["id-token", "attestations"] {
        assert_eq!(job["permissions"][permission], "write", "{permission}");
    }
    let its = steps(&release, "static");
    let scripts: String = its.iter().filter_map(|step| step["run"].as_str()).collect();
    let archive = "kcl-multilang-${{ env.TARGET }}.tar.gz";
    for action in ["actions/attest-sbom", "actions/attest-build-provenance"] {
        let attested = &uses(its, action).unwrap()["with"];
        assert_eq!(attested["subject-path"], archive, "{action}");
    }
    for wanted in ["cargo cyclonedx", "cosign sign-blob", "--version 0."] {
        assert!(scripts.contains(wanted), "{wanted} is not in {scripts}");
    }
}

#[test]
fn workflows_may_do_no_more_than_they_need() {
    for name in workflows() {
        let workflow = yaml(&name);
        assert_eq!(
            workflow["permissions"],
            serde_json::json!({"contents": "read"}),
            "{name}"
        );
        let jobs = workflow["jobs"].as_object().unwrap().values();
        for step in jobs.filter_map(|job| job["steps"].as_array()).flatten() {
            let used = step["uses"].as_str().unwrap_or_default();
            if used.starts_with("actions/checkout@") {
                assert_eq!(step["with"]["persist-credentials"], false, "{name}");
            }
        }
    }
}

#[test]
fn advisories_are_looked_up_every_day() {
    let advisories = yaml(".github/workflows/advisories.yml");
    let cron = advisories["on"]["schedule"][0]["cron"].as_str().unwrap();
    assert!(cron.ends_with("* * *"), "{cron}");
    let runs = |step: &Value| step["run"] == "cargo deny check advisories";
    assert!(steps(&advisories, "advisories").iter().any(runs));
}

#[test]
fn dependabot_knows_every_ecosystem() {
    let updates = yaml(".github/dependabot.yml");
    let updates = updates["updates"].as_array().unwrap();
    let known = |ecosystem: &str| {
        let mut updates = updates.iter();
        updates.any(|update| update["package-ecosystem"] == ecosystem)
    };
    for (ecosystem, manifest) in [
        ("cargo", "Cargo.toml"),
        ("docker", "Dockerfile"),
        ("github-actions", ".github/workflows/ci.yml"),
        ("maven", "tests/interop/java/pom.xml"),
    ] {
        assert!(
            !file(manifest).is_empty() && known(ecosystem),
            "{ecosystem}"
        );
    }
}
