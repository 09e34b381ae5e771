//! A host that has IPv6 alone: a network namespace without an address of IPv4.

use crate::{Program, skip};

/// Ends with the program's code after SIGTERM, once it was asked for a path and, by a command of
/// its own, for whatever the variable `ALSO` says.
const SCRIPT: &str = r#"
ip address del 127.0.0.1/8 dev lo
"${@:3}" & program=$!
until { exec 3<>/dev/tcp/::1/$1; } 2>/dev/null; do
    kill -0 $program || exit 3
    sleep 0.05
done
printf 'GET %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n' "$2" >&3
head -c 12 <&3; echo " was answered"
[ -z "$ALSO" ] || "$3" $ALSO || exit 4
kill -TERM $program; wait $program
"#;

/// The program, which listens on `port` of `[::]`, answers there over IPv6, and ends in order.
///
/// # Panics
/// It does not.
pub async fn alone(test: &str, program: Program, port: &str, path: &str) {
    let there = "ip link set lo up && ";
    let enter = ["--user", "--map-root-user", "--net", "bash", "-c"];
    let paths = ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let namespace = Program::new("unshare").env(paths.0, paths.1).args(enter);
    let tried = namespace
        .clone()
        .args([format!("{there} test -e /proc/net/if_inet6")]);
    if tried.run().await.0 != 0 {
        return skip::skip(
            test,
            "no network namespace with IPv6 can be made here",
            false,
        );
    }
    let script = format!("{there} true{SCRIPT}");
    let inside = program.within(namespace.args([script.as_str(), "bash", port, path]));
    let (code, log) = inside.run().await;
    assert!(log.contains("HTTP/1.1"), "{log}");
    assert_eq!(code, 0, "{log}");
}
