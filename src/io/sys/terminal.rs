//! Terminals: window sizes and the controlling terminal (ioctl_tty(2)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The size of the terminal's window.
pub fn window_size(terminal: BorrowedFd<'_>) -> io::Result<libc::winsize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which we own.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(size)
}

/// Sets the window's size; the programs in the terminal's foreground get SIGWINCH.
pub fn set_window_size(terminal: BorrowedFd<'_>, size: &libc::winsize) -> io::Result<()> {
    // SAFETY: TIOCSWINSZ reads one winsize.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const *size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes it the controlling terminal of the calling session leader.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let steal: libc::c_int = 0;
    // SAFETY: TIOCSCTTY takes an integer.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, steal) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
