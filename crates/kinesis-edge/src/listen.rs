//! A program's own port, on hosts with IPv4, IPv6 or both.

use std::{
    io::Error,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on the address. `[::]` is for IPv4, too, whatever the host's default is; where there is
/// no IPv6, for IPv4 alone.
///
/// # Errors
/// The address is taken, or none of this host's.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let everywhere = address.is_ipv6() && address.ip().is_unspecified();
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let (socket, address) = match socket(address) {
        Ok(socket) => (socket, address),
        // There is no such family here.
        Err(_) if everywhere => (socket(v4)?, v4),
        Err(error) => return Err(error),
    };
    if everywhere && address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A port whose last connections linger is free.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn socket(address: SocketAddr) -> Result<Socket, Error> {
    Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, net::Ipv6Addr};

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn everywhere_is_both_families() {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let listener = listen(everywhere).unwrap();
        let address = listener.local_addr().unwrap();
        let port = address.port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        // Without IPv6 it listens on IPv4 alone.
        if address.is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port))
                .await
                .unwrap();
        }
        let again = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn one_address_is_one_family() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        assert!(listener.local_addr().unwrap().is_ipv4());
    }
}
