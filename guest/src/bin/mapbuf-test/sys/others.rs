//! Calls by which one looks at mappings from elsewhere: another process, a debugger, the kernel's own services.

use super::{check, own, Map, Result};
use std::fs::File;
use std::os::fd::AsRawFd;

/// Locks a mapping in memory (`mlock2`).
pub fn lock(map: &Map, flags: u32) -> Result<()> {
    // SAFETY: takes a range and a number.
    check(unsafe { libc::syscall(libc::SYS_mlock2, map.start, map.len, flags) }).map(drop)
}

/// Unlocks it.
pub fn unlock(map: &Map) -> Result<()> {
    // SAFETY: takes a range.
    check(unsafe { libc::munlock(map.start as *const _, map.len) }.into()).map(drop)
}

/// A descriptor for faults that a program answers by itself.
pub fn userfaultfd() -> Result<File> {
    // SAFETY: takes a number.
    let fd = check(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })?;
    let file = own(fd as i32);
    // struct uffdio_api: version 0xaa, no features; UFFDIO_API.
    let mut api = [0xaa_u64, 0, 0];
    // SAFETY: the struct has 24 bytes.
    check(unsafe { libc::ioctl(file.as_raw_fd(), 0xc018_aa3f, api.as_mut_ptr()) }.into())?;
    Ok(file)
}

/// UFFDIO_REGISTER_MODE_MISSING
pub const MISSING: u64 = 1;

/// Asks to be told of faults in a mapping.
pub fn register(uffd: &File, map: &Map, mode: u64) -> Result<()> {
    // struct uffdio_register: start, length, mode, ioctls; UFFDIO_REGISTER.
    let mut request = [map.start as u64, map.len as u64, mode, 0];
    // SAFETY: the struct has 32 bytes.
    check(unsafe { libc::ioctl(uffd.as_raw_fd(), 0xc020_aa00, request.as_mut_ptr()) }.into())
        .map(drop)
}

/// Waits for somebody to fault in a mapping that was registered.
pub fn wait_for_fault(uffd: &File) -> Result<()> {
    // struct uffd_msg
    let mut message = [0_u64; 4];
    // SAFETY: the message has 32 bytes.
    let count = unsafe { libc::read(uffd.as_raw_fd(), message.as_mut_ptr().cast(), 32) };
    check(count as libc::c_long).map(drop)
}

/// Answers all faults in a mapping with pages of zeros.
pub fn fill_with_zeros(uffd: &File, map: &Map) -> Result<()> {
    // struct uffdio_zeropage: start, length, mode, result; UFFDIO_ZEROPAGE.
    let mut request = [map.start as u64, map.len as u64, 0, 0];
    // SAFETY: the struct has 32 bytes.
    check(unsafe { libc::ioctl(uffd.as_raw_fd(), 0xc020_aa04, request.as_mut_ptr()) }.into())
        .map(drop)
}

/// `process_vm_readv` from another process's memory.
pub fn read(pid: i32, address: usize, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0_u8; len];
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: len,
    };
    let remote = libc::iovec {
        iov_base: address as *mut _,
        iov_len: len,
    };
    // SAFETY: the local vector names `bytes`; the remote one is another process's.
    let count = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
    bytes.truncate(check(count as libc::c_long)? as usize);
    Ok(bytes)
}

/// `process_vm_writev` into another process's memory.
pub fn write(pid: i32, address: usize, bytes: &[u8]) -> Result<usize> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr() as *mut _,
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut _,
        iov_len: bytes.len(),
    };
    // SAFETY: the local vector is only read; what is written is another process's, which looks at it by volatile accesses.
    let count = unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) };
    check(count as libc::c_long).map(|count| count as usize)
}

/// Another process, stopped by `ptrace`, which goes on when this is dropped.
pub struct Stopped(i32);

impl Stopped {
    /// Stops a child of ours.
    pub fn stop(pid: i32) -> Result<Self> {
        // SAFETY: takes numbers only.
        check(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) })?;
        let mut status = 0;
        // SAFETY: `status` is valid for the call.
        check(unsafe { libc::waitpid(pid, &mut status, libc::__WALL) }.into())?;
        Ok(Self(pid))
    }

    /// A word of its memory.
    pub fn peek(&self, address: usize) -> Result<u64> {
        let mut word = 0_u64;
        // SAFETY: the system call itself, unlike the library's function, writes the word to its last argument.
        check(unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                libc::PTRACE_PEEKDATA,
                self.0,
                address,
                &raw mut word,
            )
        })?;
        Ok(word)
    }

    /// Sets a word of its memory.
    pub fn poke(&self, address: usize, word: u64) -> Result<()> {
        // SAFETY: takes numbers; what is written is another process's, which looks at it by volatile accesses.
        check(unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                libc::PTRACE_POKEDATA,
                self.0,
                address,
                word,
            )
        })
        .map(drop)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: takes numbers only. If the process is gone, it needs no detaching.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

/// Lets this process leave a core of any size, of mappings of these types (core(5), `coredump_filter`).
pub fn allow_core(filter: u32) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is valid for the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) }.into())?;
    std::fs::write("/proc/self/coredump_filter", format!("{filter:#x}"))?;
    Ok(())
}

/// Ends this process by a signal that leaves a core.
pub fn abort() -> ! {
    std::process::abort()
}
