//! The TCP connections of a process, as Linux tells them.

use std::{collections::HashMap, fs, io, process};

/// The remote ports of the TCP connections that the process has open; `None`: this one.
///
/// # Errors
/// The process is gone, or there is no `/proc`.
pub fn connections(id: Option<u32>) -> io::Result<Vec<u16>> {
    let id = id.unwrap_or_else(process::id);
    let mut remote_ports = HashMap::new();
    for table in ["tcp", "tcp6"] {
        // Where there is no IPv6 there is no table of it.
        let rows = fs::read_to_string(format!("/proc/{id}/net/{table}")).unwrap_or_default();
        remote_ports.extend(rows.lines().filter_map(connection));
    }
    let mut ports = Vec::new();
    for file in fs::read_dir(format!("/proc/{id}/fd"))? {
        // It may be closed by now.
        let Ok(target) = fs::read_link(file?.path()) else {
            continue;
        };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[");
        let inode = inode.and_then(|inode| inode.trim_end_matches(']').parse::<u64>().ok());
        ports.extend(inode.and_then(|inode| remote_ports.get(&inode)));
    }
    Ok(ports)
}

/// Inode and remote port of a row, unless it listens.
fn connection(row: &str) -> Option<(u64, u16)> {
    let fields: Vec<_> = row.split_whitespace().collect();
    let (_, port) = fields.get(2)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16)
        .ok()
        .filter(|port| *port > 0)?;
    Some((fields.get(9)?.parse().ok()?, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_is_open_is_counted_and_what_listens_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let there = || {
            connections(None)
                .unwrap()
                .into_iter()
                .filter(|to| *to == port)
        };
        assert_eq!(there().count(), 0);
        let open = [(); 3].map(|()| TcpStream::connect(("127.0.0.1", port)).unwrap());
        assert_eq!(there().count(), 3);
        drop(open);
        assert_eq!(there().count(), 0);
    }
}
