//! A question that an edge-triggered poll does not answer: is this socket ready now?

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
    // A poll that fails says nothing. The next turn of the loop asks again.
    poll(&mut [PollFd::new(socket.as_fd(), flags)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Elsewhere the caller tries, and sees.
#[cfg(not(unix))]
pub fn is_ready<S>(_socket: &S, _what: Ready) -> bool {
    true
}
