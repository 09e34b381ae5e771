//! The command line: our own, the Java daemon's, and that of a JVM which runs it.
//!
//! Launchers of KCL's clients start `java -cp JARS …MultiLangDaemon --properties-file FILE`, with
//! the path of their choice for `java`. So what a JVM would take is passed over.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Parser as _, Subcommand, ValueEnum as _};
use kinesis_consumer::Config;

use crate::log::Format;

/// How the Java daemon's class ends, in every version's package.
const CLASS: &str = ".MultiLangDaemon";

/// A drop-in for KCL's MultiLangDaemon: runs a program for each shard of a Kinesis stream.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "kcl-multilang",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// The .properties file
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// The .properties file
    #[arg(short, long, value_name = "FILE")]
    properties_file: Option<PathBuf>,

    /// A Logback file of the Java daemon's: passed over
    #[arg(short, long, value_name = "FILE")]
    log_configuration: Option<PathBuf>,

    /// Where /metrics, /livez, /readyz and /state are served, such as [::]:9090. Unset: nowhere
    #[arg(long, env = "KCL_MULTILANG_ADMIN", value_parser = admin)]
    admin: Option<Admin>,

    /// Connections to Kinesis and to the lease table at a time, whose calls wait for their turn;
    /// fan-out has connections of its own [default: 64]
    #[arg(long, env = "KCL_MULTILANG_MAX_CONNECTIONS", value_parser = connections)]
    max_connections: Option<MaxConnections>,

    /// How log lines look: text or json
    #[arg(long, env = "KCL_MULTILANG_LOG_FORMAT", default_value = "text", value_parser = format)]
    log_format: Format,

    /// What is logged: error, warn, info, debug or trace, also by module
    #[arg(long, env = "KCL_MULTILANG_LOG_LEVEL", default_value = "info", value_parser = level)]
    log_level: String,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Says what each key of a .properties file does here, and asks AWS nothing
    Check {
        /// The .properties file
        #[arg(required_unless_present = "properties_file")]
        file: Option<PathBuf>,
        /// The .properties file
        #[arg(short, long, value_name = "FILE")]
        properties_file: Option<PathBuf>,
    },
    /// Copies this binary into a folder, as an init container does
    Install {
        /// The folder
        folder: PathBuf,
    },
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Invocation {
    /// Become a child's program.
    Guard(Vec<OsString>),
    /// Say a version, as launchers ask a JVM for it.
    JavaVersion,
    /// Say what a file means.
    Check(PathBuf),
    /// Copy this binary into a folder.
    Install(PathBuf),
    /// Run.
    Run(Run),
}

/// The daemon's settings beside the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// The .properties file.
    pub file: PathBuf,
    /// A Logback file, which has no effect.
    pub log_configuration: Option<PathBuf>,
    /// The admin port.
    pub admin: Option<SocketAddr>,
    /// Connections to AWS at a time, where that is set.
    pub max_connections: Option<usize>,
    /// How log lines look.
    pub log_format: Format,
    /// What is logged.
    pub log_level: String,
    /// Started in a JVM's place: whoever did it may not pass signals on.
    pub in_place_of_java: bool,
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// What is wrong, as clap prints it; also the answers to `--help` and `--version`.
pub fn parse(arguments: Vec<OsString>) -> Result<Invocation, clap::Error> {
    let mut words = arguments.into_iter();
    let program = words.next().unwrap_or_default();
    let mut words: Vec<_> = words.collect();
    if words
        .first()
        .is_some_and(|word| word == crate::child::GUARD)
    {
        return Ok(Invocation::Guard(words.split_off(1)));
    }
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let java = words.iter().position(|word| text(word).ends_with(CLASS));
    let mut folders = Vec::new();
    if let Some(class) = java {
        let behind = words.split_off(class + 1);
        folders = class_path(&words);
        words = behind;
    } else if words.len() == 1 && ["-version", "--java-version"].contains(&text(&words[0]).as_str())
    {
        return Ok(Invocation::JavaVersion);
    }
    let args = Args::try_parse_from(std::iter::once(program).chain(words))?;
    match args.command {
        Some(Command::Check {
            file,
            properties_file,
        }) => {
            let file = properties_file.or(file).unwrap_or_default();
            return Ok(Invocation::Check(file));
        }
        Some(Command::Install { folder }) => return Ok(Invocation::Install(folder)),
        None => {}
    }
    let Some(file) = args.properties_file.or(args.file) else {
        let mut command = <Args as clap::CommandFactory>::command();
        let text = "want a .properties file: kcl-multilang --properties-file app.properties";
        return Err(command.error(clap::error::ErrorKind::MissingRequiredArgument, text));
    };
    Ok(Invocation::Run(Run {
        file: found(file, &folders),
        log_configuration: args.log_configuration,
        admin: args.admin.and_then(|Admin(address)| address),
        max_connections: args.max_connections.and_then(|MaxConnections(most)| most),
        log_format: args.log_format,
        log_level: args.log_level,
        in_place_of_java: java.is_some(),
    }))
}

/// The folders of a JVM's class path, where the Java daemon looks for the file first.
fn class_path(words: &[OsString]) -> Vec<PathBuf> {
    let option = words.iter().position(|word| {
        ["-cp", "-classpath", "--class-path"]
            .iter()
            .any(|name| word == name)
    });
    let value = option.and_then(|option| words.get(option + 1));
    let paths = value.map(std::env::split_paths).into_iter().flatten();
    paths.filter(|path| path.is_dir()).collect()
}

fn found(file: PathBuf, folders: &[PathBuf]) -> PathBuf {
    if file.is_absolute() || Path::new(&file).exists() && folders.is_empty() {
        return file;
    }
    let in_folder = folders.iter().map(|folder| folder.join(&file));
    in_folder
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or(file)
}

// An empty variable is an unset one, as manifests have it.

fn format(text: &str) -> Result<Format, String> {
    match text.trim() {
        "" => Ok(Format::Text),
        name => Format::from_str(name, false).map_err(|_| "want text or json".to_owned()),
    }
}

fn level(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Ok("info".to_owned()),
        level => Ok(level.to_owned()),
    }
}

/// Where the admin port is.
#[derive(Clone, Copy, Debug)]
struct Admin(Option<SocketAddr>);

fn admin(text: &str) -> Result<Admin, String> {
    match text.trim() {
        "" => Ok(Admin(None)),
        address => address
            .parse()
            .map(|address| Admin(Some(address)))
            .map_err(|_| "want an address and a port, such as [::]:9090".to_owned()),
    }
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
struct MaxConnections(Option<usize>);

fn connections(text: &str) -> Result<MaxConnections, String> {
    let most = match text.trim() {
        "" => None,
        number => Some(Config::parse_max_connections(number)?),
    };
    Ok(MaxConnections(most))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn of(line: &str) -> Result<Invocation, clap::Error> {
        let words =
            std::iter::once("kcl-multilang").chain(line.split(' ').filter(|it| !it.is_empty()));
        parse(words.map(OsString::from).collect())
    }

    const CLASS: &str = "software.amazon.kinesis.multilang.MultiLangDaemon";

    #[rstest]
    #[case::own("--properties-file app.properties", false)]
    #[case::short("-p app.properties", false)]
    #[case::positional("app.properties", false)]
    #[case::option_wins("-p app.properties other.properties", false)]
    #[case::logback("-l logback.xml -p app.properties", false)]
    #[case::helper("-cp /jars/a.jar:/srv CLASS --properties-file app.properties", true)]
    #[case::helper_log(
        "-cp /jars/a.jar CLASS --properties-file app.properties --log-configuration l.xml",
        true
    )]
    #[case::jvm(
        "-Xmx256m -Dlogback.configurationFile=l.xml -cp /jars/* CLASS app.properties",
        true
    )]
    #[case::old_class(
        "-cp x com.amazonaws.services.kinesis.multilang.MultiLangDaemon app.properties",
        true
    )]
    fn command_lines_in_the_wild_are_understood(#[case] line: &str, #[case] java: bool) {
        let Invocation::Run(run) = of(&line.replace("CLASS", CLASS)).unwrap() else {
            panic!("not run")
        };
        assert_eq!(run.file, PathBuf::from("app.properties"));
        assert_eq!(run.in_place_of_java, java);
    }

    #[test]
    fn a_file_is_looked_for_in_the_class_path_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.properties");
        std::fs::write(&file, "").unwrap();
        let line = format!(
            "-cp /jars/a.jar:{} {CLASS} app.properties",
            folder.path().display()
        );
        let Invocation::Run(run) = of(&line).unwrap() else {
            panic!("not run")
        };
        assert_eq!(run.file, file);
    }

    #[rstest]
    #[case("", "want a .properties file")]
    #[case("-jar x.jar", "unexpected argument")]
    #[case("check", "<FILE>")]
    #[case("--admin 9090 x.properties", "such as [::]:9090")]
    #[case("--log-format xml x.properties", "text or json")]
    #[case("--max-connections 3 x.properties", "4 or more, such as 64")]
    #[case(
        "--max-connections few x.properties",
        "'--max-connections <MAX_CONNECTIONS>'"
    )]
    fn what_is_wrong_is_said(#[case] line: &str, #[case] want: &str) {
        let error = of(line).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn what_is_empty_is_unset() {
        let words = [
            "kcl-multilang",
            "--admin=",
            "--max-connections=",
            "--log-format=",
            "--log-level=",
            "a",
        ];
        let Invocation::Run(run) = parse(words.map(OsString::from).to_vec()).unwrap() else {
            panic!("not run")
        };
        assert_eq!((run.admin, run.log_format), (None, Format::Text));
        assert_eq!(run.max_connections, None);
        assert_eq!(run.log_level, "info");
    }

    #[test]
    fn launchers_get_a_version_and_check_a_file() {
        assert_eq!(of("-version").unwrap(), Invocation::JavaVersion);
        let check = Invocation::Check("a.properties".into());
        for line in ["check a.properties", "check -p a.properties"] {
            assert_eq!(of(line).unwrap(), check);
        }
        let install = Invocation::Install("/shared".into());
        assert_eq!(of("install /shared").unwrap(), install);
        let guard = Invocation::Guard(vec!["1".into(), "/bin/sh".into()]);
        assert_eq!(of("become-the-program 1 /bin/sh").unwrap(), guard);
    }
}
