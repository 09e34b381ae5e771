//! See the library.

fn main() -> std::process::ExitCode {
    demo::run()
}
