//! File descriptors: each connection is one. What the system gives is asked for in full, and where
//! that is less than the bounds add up to, connections get fewer places.

use std::io;

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::{ADMIN_CONNECTIONS, HANDSHAKES};

/// Those of files, of listeners, and of connections to AWS.
const OTHERS: usize = 256;

/// Raises the soft limit to the hard one, as far as the system lets us.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if limit.current != limit.maximum {
        // Where it is refused the limit stays, which is looked at next.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// The most that there may be.
pub(super) fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// How many of `connections` there is room for with so many descriptors: half of them at the least,
/// and what would be needed for all.
pub(super) fn fitting(connections: usize, most: usize) -> Result<usize, (usize, usize)> {
    let needed = (HANDSHAKES + ADMIN_CONNECTIONS + OTHERS).saturating_add(connections);
    match needed <= most {
        true => Ok(connections),
        false => {
            let room = most.saturating_sub(needed - connections).max(most / 2);
            Err((connections.min(room.max(1)), needed))
        }
    }
}

/// How many places of another kind, of `bound` at the most: with few descriptors an eighth of them,
/// so that files and connections to AWS have some left whoever floods which port.
pub(super) fn beside(bound: usize, most: usize) -> usize {
    bound.min(most / 8).max(1)
}

/// Did something fail because there is no descriptor left?
pub(crate) fn ran_out(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// The same of an error with a cause.
pub(crate) fn ran_out_for(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| cause.downcast_ref().is_some_and(ran_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_what_is_left_and_half_at_the_least() {
        assert_eq!(fitting(1_000, 1_000_000), Ok(1_000));
        assert_eq!(fitting(1_000, 1_612), Ok(1_000));
        assert_eq!(fitting(1_000, 1_611), Err((999, 1_612)));
        assert_eq!(fitting(1_000, 1_024), Err((512, 1_612)));
        assert_eq!(fitting(10, 60), Err((10, 622)));
        assert_eq!(fitting(10, 1), Err((1, 622)));
    }

    #[test]
    fn other_places_leave_descriptors_for_files_and_aws() {
        let fitting = |most| fitting(1_000, most).unwrap_or_else(|(fitting, _)| fitting);
        for most in [64, 256, 1_024, 1_612, 65_536] {
            let taken = fitting(most) + beside(HANDSHAKES, most) + beside(ADMIN_CONNECTIONS, most);
            assert!(
                most - taken >= most.div_ceil(4).min(OTHERS),
                "{most}: {taken}"
            );
        }
    }
}
