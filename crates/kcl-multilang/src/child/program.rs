//! What `executableName` names, looked at before any lease is taken.

use std::{
    env,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::fs::{Access, access};
use tokio::process::Command;

use super::guard;

/// The kernel looks at no more of a script's first line.
const FIRST_LINE: usize = 256;

/// A program that can be executed, with its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    path: PathBuf,
    name: String,
    arguments: Vec<String>,
}

/// Why the program cannot be executed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("executableName {name:?}: {why}")]
pub struct Unexecutable {
    name: String,
    why: String,
}

impl Program {
    /// Finds the program of these words: a path, or a name that is looked up in `PATH`.
    ///
    /// # Errors
    /// There is none, or the kernel would not execute it.
    pub fn find(words: &[String]) -> Result<Self, Unexecutable> {
        let [name, arguments @ ..] = words else {
            return Err(Unexecutable {
                name: String::new(),
                why: "want a program".to_owned(),
            });
        };
        let unfit = |why| Unexecutable {
            name: name.clone(),
            why,
        };
        let path = match name.contains('/') {
            true => PathBuf::from(name),
            false => in_path(name).ok_or_else(|| {
                unfit("no such program in PATH: want its path, or a name that PATH has".to_owned())
            })?,
        };
        check(&path).map_err(unfit)?;
        Ok(Self {
            path,
            name: name.clone(),
            arguments: arguments.to_vec(),
        })
    }

    /// The command that starts it, in a process group of its own, so that a terminal's Ctrl-C is
    /// ours to pass on.
    pub(super) fn command(&self) -> Command {
        let mut command = match std::fs::exists("/proc/self/exe") {
            Ok(true) => {
                let mut command = Command::new("/proc/self/exe");
                command
                    .arg(guard::ARGUMENT)
                    .arg(std::process::id().to_string())
                    .arg(&self.path)
                    .arg(&self.name);
                command
            }
            _ => Command::new(&self.path),
        };
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.arguments.iter().try_for_each(|it| write!(f, " {it}"))
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if !path.exists() {
        return Err(format!("there is no {shown}"));
    }
    if !path.is_file() {
        return Err(format!("{shown} is no file"));
    }
    if access(path, Access::EXEC_OK).is_err() {
        return Err(format!(
            "{shown} may not be executed: want chmod +x {shown}"
        ));
    }
    let mut first = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(FIRST_LINE as u64).read_to_end(&mut first));
    if read.is_err() || first.starts_with(b"\x7fELF") {
        // What may not be read may be executed.
        return Ok(());
    }
    let Some(line) = first.strip_prefix(b"#!") else {
        let want = "want #! and its interpreter as the first line";
        return Err(format!(
            "{shown} is neither a binary nor a script that says its interpreter: {want}"
        ));
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let interpreter = line.split([' ', '\t']).find(|word| !word.is_empty());
    let interpreter = interpreter.unwrap_or_default();
    if interpreter.ends_with('\r') {
        return Err(format!(
            "the first line of {shown} ends with a carriage return: want line ends of Unix"
        ));
    }
    if access(interpreter, Access::EXEC_OK).is_err() {
        return Err(format!(
            "the interpreter of {shown}, {interpreter:?}, is not there or may not be executed"
        ));
    }
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let is_env = words.next().is_some_and(|word| word.ends_with("/env"));
    // Its options and assignments come before the program's name.
    let mut words = words.skip_while(|word| word.starts_with('-') || word.contains('='));
    if is_env
        && let Some(name) = words.next()
        && !name.contains('/')
        && in_path(name).is_none()
    {
        return Err(format!(
            "the interpreter of {shown}, {name:?}, is not in PATH"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_program_is_found_in_path_or_by_its_path() {
        for name in ["sh", "/bin/sh"] {
            let program = Program::find(&words(&format!("{name} -c true"))).unwrap();
            assert!(program.path.ends_with("sh"), "{program:?}");
            assert_eq!(program.arguments, ["-c", "true"]);
        }
    }

    #[test]
    fn what_the_kernel_would_not_execute_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let folder_itself = folder.path().to_str().unwrap().to_owned();
        for (name, want) in [
            (put("plain", "#!/bin/sh\n", 0o644), "chmod +x"),
            (
                put("bare", "import os\n", 0o755),
                "neither a binary nor a script",
            ),
            (
                put("lost", "#!/no/python\n", 0o755),
                "\"/no/python\", is not there",
            ),
            (
                put("newer", "#!/usr/bin/env -S python9 -u\n", 0o755),
                "\"python9\", is not in PATH",
            ),
            (put("dos", "#!/bin/sh\r\n", 0o755), "carriage return"),
            (folder_itself, "is no file"),
            ("./no-such-file".to_owned(), "there is no ./no-such-file"),
            ("no-such-program".to_owned(), "no such program in PATH"),
        ] {
            let error = Program::find(&[name]).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        let env = put("env", "#!/usr/bin/env sh\n", 0o755);
        assert!(Program::find(&[env]).is_ok());
    }
}
