//! System calls, as safe functions; the smaller of them; `memory`, `board` and `pages` have the rest of what is unsafe.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the reason of a block covers the steps that belong together"
)]

use mapbuf_fuzz::op::PAGE;
use std::ffi::CString;
use std::io;

/// An `errno`, 0 for none.
pub type Errno = i32;

fn errno() -> Errno {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

pub fn check(result: i64) -> Result<i64, Errno> {
    match result {
        -1 => Err(errno()),
        result => Ok(result),
    }
}

/// The error of a call that answers with nothing else.
pub fn only(result: i64) -> Errno {
    check(result).err().unwrap_or(0)
}

/// `open`
pub fn open(path: &str, access: u8) -> Result<i32, Errno> {
    let path = CString::new(path).map_err(|_| libc::EINVAL)?;
    // SAFETY: the path is a string.
    let fd = unsafe { libc::open(path.as_ptr(), i32::from(access) | libc::O_CLOEXEC) };
    check(fd.into()).map(|fd| fd as i32)
}

/// `close`
pub fn close(fd: i32) -> Errno {
    // SAFETY: the descriptors that the callers have are no one else's.
    only(unsafe { libc::close(fd) }.into())
}

/// `lseek`
pub fn seek(fd: i32, offset: i64, whence: i32) -> Result<u64, Errno> {
    // SAFETY: touches no memory.
    check(unsafe { libc::lseek(fd, offset, whence) }).map(|to| to as u64)
}

/// An address at which there is nothing.
pub const NOWHERE: usize = 16;

/// `pread`, to an address that is none if `nowhere`.
pub fn read_at(fd: i32, to: &mut [u8], position: u64, nowhere: bool) -> Result<usize, Errno> {
    let address = match nowhere {
        true => NOWHERE as *mut libc::c_void,
        false => to.as_mut_ptr().cast(),
    };
    // SAFETY: the buffer is as long as that, or there is none.
    let result = unsafe { libc::pread(fd, address, to.len(), position as i64) };
    check(result as i64).map(|count| count as usize)
}

/// `pwrite`, from an address that is none if `nowhere`.
pub fn write_at(fd: i32, from: &[u8], position: u64, nowhere: bool) -> Result<usize, Errno> {
    let address = match nowhere {
        true => NOWHERE as *const libc::c_void,
        false => from.as_ptr().cast(),
    };
    // SAFETY: the buffer is as long as that, or there is none.
    let result = unsafe { libc::pwrite(fd, address, from.len(), position as i64) };
    check(result as i64).map(|count| count as usize)
}

/// `eventfd`, which nobody waits for.
pub fn eventfd() -> Result<i32, Errno> {
    // SAFETY: touches no memory.
    check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }.into())
        .map(|fd| fd as i32)
}

/// What an eventfd has counted since it was read.
pub fn count(eventfd: i32) -> Result<u64, Errno> {
    let mut count = 0u64;
    // SAFETY: there is room for the number.
    let result = unsafe { libc::read(eventfd, (&raw mut count).cast(), 8) };
    check(result as i64).map(|_| count)
}

/// Closes a descriptor and all after it.
pub fn close_from(first: i32) {
    // SAFETY: the caller has opened them all, or had them opened by the driver.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// `ioctl` with an address in pages that nobody refers to.
pub fn ioctl(fd: i32, number: u32, address: usize) -> Errno {
    // SAFETY: what the driver may write to lies on the desk, or in the rows that a struct there names.
    only(unsafe { libc::ioctl(fd, number.into(), address) }.into())
}

/// Sends a descriptor into a socket.
pub fn send(socket: i32, fd: i32) -> Errno {
    with_message(|message| {
        // SAFETY: the message has room for one header with one descriptor.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
            only(libc::sendmsg(socket, message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as i64)
        }
    })
}

/// Takes a descriptor out of a socket.
pub fn receive(socket: i32) -> Result<i32, Errno> {
    with_message(|message| {
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message has room for one header with one descriptor.
        unsafe {
            check(libc::recvmsg(socket, message, flags) as i64)?;
            let header = libc::CMSG_FIRSTHDR(message);
            if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
                return Err(libc::ENOMSG);
            }
            Ok(libc::CMSG_DATA(header).cast::<i32>().read_unaligned())
        }
    })
}

/// A message of one byte with room for one descriptor.
fn with_message<T>(f: impl FnOnce(*mut libc::msghdr) -> T) -> T {
    let mut byte = [0u8];
    let mut control = [0u64; 4];
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: all zeros are a value of the type.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
    f(&mut message)
}

/// Two sockets that are connected.
pub fn sockets() -> Result<[i32; 2], Errno> {
    let mut pair = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: there is room for two.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) }.into())?;
    Ok(pair)
}

/// A pipe: what is read from, and what is written to.
pub fn pipe() -> Result<[i32; 2], Errno> {
    let mut pair = [0; 2];
    // SAFETY: there is room for two.
    check(unsafe { libc::pipe2(pair.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    Ok(pair)
}

/// Writes one byte.
pub fn tell(pipe: i32, byte: u8) -> Errno {
    // SAFETY: one byte is there.
    only(unsafe { libc::write(pipe, (&raw const byte).cast(), 1) } as i64)
}

/// Waits for one byte; nothing when nobody can write any more.
pub fn listen(pipe: i32) -> Option<u8> {
    let mut byte = 0u8;
    // SAFETY: there is room for one byte.
    let count = unsafe { libc::read(pipe, (&raw mut byte).cast(), 1) };
    (count == 1).then_some(byte)
}

/// Waits until there is something to read, at most so long.
pub fn wait_for(pipe: i32, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd {
        fd: pipe,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry.
    unsafe { libc::poll(&mut poll, 1, milliseconds) == 1 }
}

/// `fork`: the child's id, or nothing in the child. There is one thread only.
pub fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: the program has one thread, so the child may do anything.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(None),
        child => Ok(Some(child as i32)),
    }
}

/// Ends the process at once.
pub fn leave(status: i32) -> ! {
    // SAFETY: does not come back.
    unsafe { libc::_exit(status) }
}

/// Kills a process, or a group (negative).
pub fn kill(pid: i32) {
    // SAFETY: touches no memory.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Kills the calling process.
pub fn die() -> ! {
    // SAFETY: touches no memory.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    leave(99)
}

/// Waits for a child (-1: any); its id and status. `now`: does not wait.
pub fn wait(pid: i32, now: bool) -> Option<(i32, i32)> {
    let mut status = 0;
    let flags = if now { libc::WNOHANG } else { 0 };
    loop {
        // SAFETY: there is room for the status.
        match unsafe { libc::waitpid(pid, &mut status, flags) } {
            0 => return None,
            -1 if errno() == libc::EINTR => {}
            -1 => return None,
            child => return Some((child, status)),
        }
    }
}

/// Whether a status is that of an exit with 0, or of a SIGKILL.
pub fn ended_as_told(status: i32) -> bool {
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        || libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}

/// Has orphans become children of this process.
pub fn adopt_orphans() {
    // SAFETY: touches no memory.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Makes a group of processes of its own.
pub fn own_group() {
    // SAFETY: touches no memory.
    unsafe { libc::setpgid(0, 0) };
}

/// Becomes an ordinary user for good.
pub fn become_user(id: u32) -> Errno {
    // SAFETY: touches no memory.
    let results = unsafe {
        [
            libc::setgroups(0, std::ptr::null()),
            libc::setresgid(id, id, id),
            libc::setresuid(id, id, id),
        ]
    };
    match results.iter().all(|result| *result == 0) {
        true => 0,
        false => errno(),
    }
}

/// Runs `f` while the process can have no more descriptors.
pub fn without_descriptors<T>(f: impl FnOnce() -> T) -> T {
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: there is room for the limits.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut before) };
    let none = libc::rlimit {
        rlim_cur: 3,
        ..before
    };
    // SAFETY: a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) };
    let result = f();
    // SAFETY: the limit that there was.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &before) };
    result
}

/// A dma-buf of another driver that is open for reading alone, if this kernel has one that makes them.
pub fn foreign_dma_buf() -> Option<i32> {
    let heap = open("/dev/dma_heap/system", 2).ok()?;
    // DMA_HEAP_IOCTL_ALLOC of include/uapi/linux/dma-heap.h: u64 len, u32 fd, u32 fd_flags, u64 heap_flags.
    let mut request = [PAGE as u64, (libc::O_RDONLY as u64) << 32, 0];
    let number = 3 << 30 | 24 << 16 | u32::from(b'H') << 8;
    // SAFETY: the struct has that size.
    let result = unsafe { libc::ioctl(heap, number.into(), request.as_mut_ptr()) };
    close(heap);
    (result == 0).then_some(request[1] as u32 as i32)
}
