//! SIGINT (Ctrl-C), SIGTERM and SIGHUP stop a loop, without a thread of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mio::{Registry, Token};
#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The signals that stop a program.
#[cfg(unix)]
const STOP_SIGNALS: &[i32] = &[SIGINT, SIGTERM, SIGHUP];
#[cfg(not(unix))]
const STOP_SIGNALS: &[i32] = &[SIGINT, SIGTERM];

/// The exit code after a second signal: that of a program which SIGINT has ended.
const INTERRUPTED: i32 = 130;

/// Makes the first of these signals set `stop`. A signal that finds it set ends the process. Call
/// it once for each flag: registered twice, one signal would count as two.
pub fn set_on_signals(stop: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in STOP_SIGNALS {
        // In this order: the first signal finds the flag unset.
        flag::register_conditional_shutdown(*signal, INTERRUPTED, Arc::clone(stop))?;
        flag::register(*signal, Arc::clone(stop))?;
    }
    Ok(())
}

/// The end of a pipe that a signal writes to. The poll reports that.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    _pipe: mio::net::UnixStream,
}

impl Signals {
    /// Makes signals set `stop` and wake the poll. A second signal ends the process.
    pub(crate) fn register(stop: &Arc<AtomicBool>, registry: &Registry, token: Token) -> io::Result<Self> {
        set_on_signals(stop)?;
        Self::wake(registry, token)
    }

    #[cfg(unix)]
    fn wake(registry: &Registry, token: Token) -> io::Result<Self> {
        use std::os::unix::net::UnixStream;
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        let mut pipe = mio::net::UnixStream::from_std(read);
        registry.register(&mut pipe, token, mio::Interest::READABLE)?;
        for signal in STOP_SIGNALS {
            signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
        }
        Ok(Self { _pipe: pipe })
    }

    /// Elsewhere the loop sees the flag when it checks the time limits.
    #[cfg(not(unix))]
    fn wake(_registry: &Registry, _token: Token) -> io::Result<Self> {
        Ok(Self {})
    }
}
