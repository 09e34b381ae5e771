//! A drop-in for KCL's MultiLangDaemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    kcl_multilang::process::run(std::env::args_os().collect())
}
