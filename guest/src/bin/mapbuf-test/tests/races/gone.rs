//! Memory of a device that is gone: where a touch raises SIGBUS, a page is put that says so, and the program goes on.

use crate::check;
use crate::check::Outcome;
use crate::sys::{self, Map, PAGE, RW};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

/// What the last word of such a page has. No operation writes there.
const MARK: u64 = 0x676f_6e65_676f_6e65;
const LAST: usize = PAGE - 8;

/// The file that has the page.
static PAGE_FILE: AtomicI32 = AtomicI32::new(-1);

/// Has this process, and those that it forks, survive SIGBUS.
pub fn survive() -> Outcome {
    if PAGE_FILE.load(Ordering::Relaxed) >= 0 {
        return Ok(());
    }
    let mut page = sys::memfd()?;
    page.write_all(&[0; LAST])?;
    page.write_all(&MARK.to_ne_bytes())?;
    PAGE_FILE.store(page.as_raw_fd(), Ordering::Relaxed);
    // For as long as the process is there.
    std::mem::forget::<File>(page);
    // SAFETY: All of it may be zero.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: The handler is a function with the arguments that `SA_SIGINFO` asks for.
    let set = unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    check!(set == 0, "no handler: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Whether a page of a mapping was found to be gone.
pub fn is_gone(map: &Map, page: usize) -> bool {
    map.u64(page * PAGE + LAST) == MARK
}

extern "C" fn handle(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: The kernel gives a structure.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS has an address.
    let address = unsafe { info.si_addr() };
    let page = (address as usize & !(PAGE - 1)) as *mut libc::c_void;
    let fd = PAGE_FILE.load(Ordering::Relaxed);
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: The page is one of a mapping of the program's that can have no entry any more; nobody has a reference into it.
    let put = unsafe { libc::mmap(page, PAGE, RW, flags, fd, 0) };
    if put == libc::MAP_FAILED {
        // SAFETY: It can be called at any time.
        unsafe { libc::_exit(97) };
    }
}
