//! Tests whether a socket is ready now, which an edge-triggered poll does not report.

/// What a socket may be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    ToRead,
    ToWrite,
}

/// Whether the socket is ready, or has failed. One system call.
#[cfg(unix)]
pub fn is_ready(socket: &impl std::os::fd::AsFd, what: Ready) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let flags = match what {
        Ready::ToRead => PollFlags::POLLIN,
        Ready::ToWrite => PollFlags::POLLOUT,
    };
    // On an error the next turn of the loop tests again.
    poll(&mut [PollFd::new(socket.as_fd(), flags)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// On other systems always true: the next call returns `WouldBlock`.
#[cfg(not(unix))]
pub fn is_ready<S>(_socket: &S, _what: Ready) -> bool {
    true
}
