//! System calls as safe functions: the only file here that has `unsafe` in it.

use std::ffi::CString;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes in a page of x86-64.
pub const PAGE: usize = 4096;
pub const READ: i32 = libc::PROT_READ;
pub const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
pub const SHARED: i32 = libc::MAP_SHARED;
pub const PRIVATE: i32 = libc::MAP_PRIVATE;

/// The number of an error; 0 for one that is none of the kernel's.
pub fn errno(error: &Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result == -1 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}

/// A mapping, or what is left of it. The kernel and other mappings change its bytes: volatile accesses only.
pub struct Map {
    start: usize,
    len: usize,
}

impl Map {
    /// Maps `len` bytes of a file from `offset` on; the offset is a number of any size.
    pub fn new(
        file: &impl AsRawFd,
        offset: u64,
        len: usize,
        prot: i32,
        sharing: i32,
    ) -> Result<Self> {
        // SAFETY: the kernel chooses the address, so nothing of ours lies there.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                prot,
                sharing,
                file.as_raw_fd(),
                offset as i64,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let start = start as usize;
        Ok(Self { start, len })
    }

    pub fn start(&self) -> usize {
        self.start
    }

    /// Bytes that were mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    fn at(&self, byte: usize) -> *mut u32 {
        assert!(byte % 4 == 0 && byte + 4 <= self.len);
        (self.start + byte) as *mut u32
    }

    /// The word at a byte, a multiple of four. Where nothing is mapped any more this process ends by SIGSEGV or SIGBUS.
    pub fn word(&self, byte: usize) -> u32 {
        // SAFETY: aligned and within the range that the mapping was made with, which nothing else of ours uses.
        unsafe { self.at(byte).read_volatile() }
    }

    pub fn set_word(&self, byte: usize, word: u32) {
        // SAFETY: as in `word`.
        unsafe { self.at(byte).write_volatile(word) }
    }

    pub fn protect(&self, prot: i32) -> Result<()> {
        // SAFETY: no reference points into the mapping.
        check(unsafe { libc::mprotect(self.start as *mut _, self.len, prot) }.into())?;
        Ok(())
    }

    pub fn advise(&self, advice: i32) -> Result<()> {
        // SAFETY: no reference points into the mapping.
        check(unsafe { libc::madvise(self.start as *mut _, self.len, advice) }.into())?;
        Ok(())
    }

    /// Takes bytes out of it.
    pub fn unmap(&self, from: usize, len: usize) -> Result<()> {
        assert!(from + len <= self.len);
        // SAFETY: within the range that the mapping was made with; no reference points into it.
        check(unsafe { libc::munmap((self.start + from) as *mut _, len) }.into())?;
        Ok(())
    }

    /// Moves or resizes it, as the kernel likes.
    pub fn remap(&mut self, len: usize) -> Result<()> {
        // SAFETY: no reference points into the mapping.
        let start =
            unsafe { libc::mremap(self.start as *mut _, self.len, len, libc::MREMAP_MAYMOVE) };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        self.start = start as usize;
        self.len = len;
        Ok(())
    }

    /// Moves it to another address.
    pub fn relocate(&mut self) -> Result<()> {
        // SAFETY: the kernel chooses the address of the place that is to be overwritten.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                self.len,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if place == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: what is overwritten is the mapping of above; no reference points into either.
        let start = unsafe { libc::mremap(self.start as *mut _, self.len, self.len, flags, place) };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        self.start = start as usize;
        Ok(())
    }

    /// Reads the first page by `process_vm_readv`, for which the kernel pins it.
    pub fn pin(&self) -> Result<()> {
        let mut copy = [0_u8; PAGE];
        let local = libc::iovec {
            iov_base: copy.as_mut_ptr().cast(),
            iov_len: PAGE,
        };
        let remote = libc::iovec {
            iov_base: self.start as *mut _,
            iov_len: PAGE,
        };
        let process = std::process::id() as libc::pid_t;
        // SAFETY: what is written to is a buffer of that length.
        check(unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) } as _)?;
        Ok(())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: no reference points into the mapping. It fails where parts were taken out, which is all the same.
        unsafe { libc::munmap(self.start as *mut _, self.len) };
    }
}

/// `ioctl` with bytes that the driver may read and change.
pub fn ioctl_bytes(file: &File, number: u32, bytes: &mut [u8]) -> Result<i64> {
    // Bits 16 to 29 of a number are the size of its argument (`_IOC_SIZE`).
    assert!(bytes.len() >= (number >> 16 & 0x3fff) as usize);
    // SAFETY: the driver copies as many bytes as the number says, and so many are there.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number.into(), bytes.as_mut_ptr()) };
    check(result.into())
}

/// `ioctl` with a number.
pub fn ioctl_value(file: &File, number: u32, value: usize) -> Result<i64> {
    // SAFETY: the driver takes the argument for a number.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number.into(), value) };
    check(result.into())
}

/// A descriptor that an ioctl has returned.
pub fn descriptor(number: i64) -> OwnedFd {
    // SAFETY: it was made for this process just now, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(number as i32) }
}

/// How a process ended: its status, or 128 and the signal.
fn ending(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}

/// Runs something in a forked child, which must not allocate much; its exit status, or 128 and the signal.
pub fn in_child(body: impl FnOnce() -> bool) -> Result<i32> {
    // SAFETY: this program has one thread where it forks, so the child finds every lock open.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let well = body();
        // SAFETY: ends the child without running what the parent has to.
        unsafe { libc::_exit(i32::from(!well)) };
    }
    check(child.into())?;
    let mut status = 0;
    // SAFETY: the status is ours to write to.
    check(unsafe { libc::waitpid(child, &mut status, 0) }.into())?;
    Ok(ending(status))
}

/// Loads a module.
pub fn load(path: &str, parameters: &str) -> Result<()> {
    let file = File::open(path)?;
    let parameters = CString::new(parameters)?;
    // SAFETY: the text ends with a 0.
    check(unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            parameters.as_ptr(),
            0,
        )
    })?;
    Ok(())
}

/// Unloads a module, without waiting.
pub fn unload(name: &str) -> Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the text ends with a 0.
    check(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) })?;
    Ok(())
}

/// Mounts an empty file system of memory.
pub fn mount_tmpfs(folder: &str) -> Result<()> {
    let folder = CString::new(folder)?;
    let kind = c"tmpfs".as_ptr();
    // SAFETY: the texts end with a 0, and tmpfs needs no data.
    let result = unsafe { libc::mount(kind, folder.as_ptr(), kind, 0, std::ptr::null()) };
    check(result.into())?;
    Ok(())
}

pub fn unmount(folder: &str) -> Result<()> {
    let folder = CString::new(folder)?;
    // SAFETY: the text ends with a 0.
    check(unsafe { libc::umount2(folder.as_ptr(), 0) }.into())?;
    Ok(())
}

/// Makes a node for a character device with this number.
pub fn make_node(path: &str, number: u64) -> Result<()> {
    let path = CString::new(path)?;
    // SAFETY: the text ends with a 0.
    check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o600, number) }.into())?;
    Ok(())
}

/// Waits until something holds.
pub fn until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if begun.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
