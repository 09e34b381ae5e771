//! Client libraries from their registries, installed once into the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use test_support::skip::skip;
use tokio::sync::OnceCell;

/// What a child is written with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// Python, and no library.
    Plain,
    /// PyPI's amazon_kclpy.
    Kclpy,
    /// Its last version with the protocol of KCL 1.x.
    OldKclpy,
    /// npm's aws-kcl.
    AwsKcl,
}

/// The newest at the registries' state of 2026-11.
const KCLPY: &str = "amazon_kclpy==3.2.0";
const OLD_KCLPY: &str = "amazon_kclpy==1.5.1";
const AWS_KCL: &str = "aws-kcl@2.3.2";

static PYTHON: OnceCell<Option<String>> = OnceCell::const_new();
static KCLPY_FOLDER: OnceCell<Result<PathBuf, String>> = OnceCell::const_new();
static OLD_KCLPY_FOLDER: OnceCell<Result<PathBuf, String>> = OnceCell::const_new();
static AWS_KCL_FOLDER: OnceCell<Result<PathBuf, String>> = OnceCell::const_new();

/// A child's command, and the variables that it needs.
pub struct Runs {
    pub command: String,
    pub variables: Vec<(&'static str, String)>,
}

/// The command of a child of that kind. `None`: it cannot be had, which was said.
pub async fn command(client: Client, test: &str) -> Option<Runs> {
    let missing = |why: &str| {
        skip(test, why, true);
        None
    };
    match client {
        Client::Plain => {
            let Some(python) = python().await else {
                return missing("no python3");
            };
            Some(Runs {
                command: format!("{python} {}", child("plain.py")),
                variables: Vec::new(),
            })
        }
        Client::Kclpy | Client::OldKclpy => {
            let Some(python) = python().await else {
                return missing("no python3");
            };
            let (version, cell, script) = match client {
                Client::Kclpy => (KCLPY, &KCLPY_FOLDER, "with_kclpy.py"),
                _ => (OLD_KCLPY, &OLD_KCLPY_FOLDER, "with_old_kclpy.py"),
            };
            match cell.get_or_init(async || kclpy(python, version)).await {
                Ok(folder) => Some(Runs {
                    command: format!("{python} {}", child(script)),
                    variables: vec![("PYTHONPATH", folder.display().to_string())],
                }),
                Err(why) => missing(why),
            }
        }
        Client::AwsKcl => match AWS_KCL_FOLDER.get_or_init(async || aws_kcl()).await {
            Ok(folder) => Some(Runs {
                command: format!("node {}", child("with_aws_kcl.js")),
                variables: vec![("NODE_PATH", folder.display().to_string())],
            }),
            Err(why) => missing(why),
        },
    }
}

/// The path of one of our children.
pub fn child(name: &str) -> String {
    format!(
        "{}/tests/multilang/children/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// The interpreter itself: what PATH has may be a slow wrapper.
pub async fn python() -> Option<&'static str> {
    let found = PYTHON.get_or_init(async || {
        let ask = ["-c", "import sys; print(sys.executable)"];
        let output = Command::new("python3").args(ask).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.trim().to_owned()).filter(|path| !path.is_empty())
    });
    found.await.as_deref()
}

/// Its source alone: installing it would fetch the jars that it is run without here.
fn kclpy(python: &str, version: &str) -> Result<PathBuf, String> {
    let folder = folder(version);
    let done = |root: &Path| {
        let entries = fs::read_dir(root).ok()?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|path| path.join("amazon_kclpy").is_dir())
    };
    if let Some(found) = done(&folder) {
        return Ok(found);
    }
    let to = folder.to_str().unwrap();
    run(
        python,
        &[
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
            "--no-build-isolation",
            "--dest",
            to,
            version,
        ],
    )
    .or_else(|_| {
        run(
            python,
            &[
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                to,
                version,
            ],
        )
    })?;
    let archive = fs::read_dir(&folder)
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.is_file())
        .ok_or("pip downloaded nothing")?;
    let unpack = "import shutil, sys, zipfile, tarfile\n\
                  a, to = sys.argv[1:]\n\
                  (zipfile.ZipFile(a).extractall(to + '/wheel') if a.endswith('.whl') else tarfile.open(a).extractall(to))";
    run(python, &["-c", unpack, archive.to_str().unwrap(), to])?;
    done(&folder).ok_or_else(|| format!("no amazon_kclpy in {}", archive.display()))
}

fn aws_kcl() -> Result<PathBuf, String> {
    let folder = folder(AWS_KCL);
    let modules = folder.join("node_modules");
    if !modules.join("aws-kcl").is_dir() {
        let to = folder.to_str().unwrap();
        run(
            "npm",
            &[
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
                to,
                AWS_KCL,
            ],
        )?;
    }
    Ok(modules)
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {arguments:?}: {text}"))
}
