//! System calls, as safe functions where they can be; with [`others`] the only file here that has `unsafe` in it.

pub mod others;

use mapbuf_init::clock::Stopwatch;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Bytes in a page. The driver's answer to `QUERY` is compared with it.
pub const PAGE: usize = 4096;

/// An `errno` value.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Errno(pub i32);

impl Errno {
    fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(0))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::EINTR => "EINTR",
            libc::E2BIG => "E2BIG",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::ENODEV => "ENODEV",
            libc::EINVAL => "EINVAL",
            libc::ENOTTY => "ENOTTY",
            libc::ENOSPC => "ENOSPC",
            libc::EOVERFLOW => "EOVERFLOW",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::EDQUOT => "EDQUOT",
            libc::ESPIPE => "ESPIPE",
            number => return write!(f, "errno {number}"),
        };
        f.write_str(name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub type Result<T> = std::result::Result<T, Errno>;

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result == -1 {
        return Err(Errno::last());
    }
    Ok(result)
}

/// A type whose every bit pattern is a value, without padding: the structs of the binary interface.
///
/// # Safety
///
/// Just that.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ident)*) => { $(
        // SAFETY: `abi` asserts these layouts: integers and arrays of them, no padding.
        unsafe impl Plain for mapbuf_abi::$name {}
    )* };
}

plain!(Device DmaMask Attach Detach Sync Irq Config Bar);
plain!(Query Alloc Free Info Segment Segments Offset Export LastError Name Unname Import Region Probe Refused);

/// The bytes of a struct.
pub fn bytes_of<T: Plain>(value: &T) -> Vec<u8> {
    // SAFETY: `T` has no padding, so each of its bytes is initialised.
    unsafe { std::slice::from_raw_parts((value as *const T).cast::<u8>(), size_of::<T>()) }.to_vec()
}

/// `ioctl` with a struct that says its own size in its first field.
pub fn ioctl<T: Plain>(file: &impl AsFd, number: u32, value: &mut T) -> Result<i32> {
    let mut bytes = bytes_of(value);
    let result = ioctl_bytes(file, number, &mut bytes);
    // SAFETY: `bytes` is as long as `T`, of which every bit pattern is a value.
    *value = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) };
    result
}

/// `ioctl` with the bytes of a struct, which may be shorter or longer than the driver knows it.
pub fn ioctl_bytes(file: &impl AsFd, number: u32, bytes: &mut [u8]) -> Result<i32> {
    // The driver writes back as much as the first field promises at most, and not more than the longest
    // struct; the copy has room for that, whatever the field says.
    let mut room = vec![0_u8; bytes.len().max(2 * PAGE)];
    room[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the buffer is valid for what the driver may read and write.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), number.into(), room.as_mut_ptr()) };
    bytes.copy_from_slice(&room[..bytes.len()]);
    check(result.into()).map(|result| result as i32)
}

/// `ioctl` with an address inside a mapping, which only volatile accesses look at.
pub fn ioctl_mapped(file: &impl AsFd, number: u32, map: &Map, at: usize) -> Result<i32> {
    // SAFETY: what the driver writes there hurts no Rust object; beyond the mapping lies what the caller protected.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), number.into(), map.start + at) };
    check(result.into()).map(|result| result as i32)
}

/// `ioctl` with an address at which nothing of ours can lie: the first page, or the upper half.
pub fn ioctl_nowhere(file: &impl AsFd, number: u32, address: usize) -> Result<i32> {
    assert!(address < PAGE || address >> 47 != 0);
    // SAFETY: no object of this program is at that address.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), number.into(), address) };
    check(result.into()).map(|result| result as i32)
}

/// A mapping, or what is left of it. Other processes and the kernel change its bytes at any time, so they are
/// reached by volatile accesses only.
pub struct Map {
    pub start: usize,
    pub len: usize,
    whole: bool,
}

pub const READ: i32 = libc::PROT_READ;
pub const WRITE: i32 = libc::PROT_WRITE;
pub const EXEC: i32 = libc::PROT_EXEC;
pub const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
pub const SHARED: i32 = libc::MAP_SHARED;
pub const PRIVATE: i32 = libc::MAP_PRIVATE;

impl Map {
    /// Maps a part of a file where the kernel likes it.
    pub fn new(file: &impl AsFd, len: usize, prot: i32, flags: i32, offset: u64) -> Result<Self> {
        Self::from_mmap(len, prot, flags, file.as_fd().as_raw_fd(), offset)
    }

    /// Maps a part of a file at this address if nothing is there, else where the kernel likes it.
    pub fn near(
        address: usize,
        file: &impl AsFd,
        len: usize,
        prot: i32,
        flags: i32,
        offset: u64,
    ) -> Result<Self> {
        assert!(flags & libc::MAP_FIXED == 0 && offset % PAGE as u64 == 0);
        let fd = file.as_fd().as_raw_fd();
        let address = address as *mut libc::c_void;
        // SAFETY: without MAP_FIXED nothing that is mapped is replaced.
        let start = unsafe { libc::mmap(address, len, prot, flags, fd, offset as i64) };
        let start = check(start as libc::c_long)? as usize;
        Ok(Self {
            start,
            len: len.next_multiple_of(PAGE),
            whole: true,
        })
    }

    /// Shows another page of the file in place of one (`remap_file_pages`).
    pub fn show_elsewhere(&self, at: usize, len: usize, page: usize) -> Result<()> {
        assert!(at + len <= self.len);
        let start = self.start + at;
        // SAFETY: the range is this mapping's own, to which there are no references.
        let result = unsafe { libc::syscall(libc::SYS_remap_file_pages, start, len, 0, page, 0) };
        check(result).map(drop)
    }

    /// Writes back what is to be written back.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: the range is this mapping's own.
        let result = unsafe { libc::msync(self.start as *mut _, self.len, libc::MS_SYNC) };
        check(result.into()).map(drop)
    }

    /// Which pages are in memory.
    pub fn resident(&self) -> Result<Vec<bool>> {
        let mut pages = vec![0_u8; self.len / PAGE];
        let start = self.start as *mut libc::c_void;
        // SAFETY: there is a byte for each page.
        check(unsafe { libc::mincore(start, self.len, pages.as_mut_ptr()) }.into())?;
        Ok(pages.iter().map(|page| page & 1 != 0).collect())
    }

    /// Anonymous memory.
    pub fn anonymous(len: usize) -> Result<Self> {
        Self::from_mmap(len, RW, PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn from_mmap(len: usize, prot: i32, flags: i32, fd: i32, offset: u64) -> Result<Self> {
        assert!(flags & libc::MAP_FIXED == 0);
        // SAFETY: without MAP_FIXED nothing that is mapped is replaced.
        let start = unsafe {
            libc::syscall(
                libc::SYS_mmap,
                std::ptr::null_mut::<u8>(),
                len,
                prot,
                flags,
                fd,
                offset,
            )
        };
        let start = check(start)? as usize;
        Ok(Self {
            start,
            len: len.next_multiple_of(PAGE),
            whole: true,
        })
    }

    fn pointer<T>(&self, at: usize) -> *mut T {
        assert!(
            at.checked_add(size_of::<T>())
                .is_some_and(|end| end <= self.len)
                && at % align_of::<T>() == 0
        );
        (self.start + at) as *mut T
    }

    pub fn u8(&self, at: usize) -> u8 {
        // SAFETY: inside the mapping; a part that was unmapped raises a signal, which is the test's failure.
        unsafe { self.pointer::<u8>(at).read_volatile() }
    }

    pub fn u32(&self, at: usize) -> u32 {
        // SAFETY: as above, and aligned.
        unsafe { self.pointer::<u32>(at).read_volatile() }
    }

    pub fn u64(&self, at: usize) -> u64 {
        // SAFETY: as above, and aligned.
        unsafe { self.pointer::<u64>(at).read_volatile() }
    }

    pub fn set_u8(&self, at: usize, value: u8) {
        // SAFETY: as above.
        unsafe { self.pointer::<u8>(at).write_volatile(value) }
    }

    pub fn set_u32(&self, at: usize, value: u32) {
        // SAFETY: as above, and aligned.
        unsafe { self.pointer::<u32>(at).write_volatile(value) }
    }

    pub fn set_u64(&self, at: usize, value: u64) {
        // SAFETY: as above, and aligned.
        unsafe { self.pointer::<u64>(at).write_volatile(value) }
    }

    pub fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        (at..at + len).map(|at| self.u8(at)).collect()
    }

    pub fn set_bytes(&self, at: usize, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            self.set_u8(at, *byte);
        }
    }

    /// Sets every word.
    pub fn fill(&self, word: u64) {
        for at in (0..self.len).step_by(8) {
            self.set_u64(at, word);
        }
    }

    /// The first word that differs, and where.
    pub fn differs(&self, word: u64) -> Option<(usize, u64)> {
        (0..self.len)
            .step_by(8)
            .map(|at| (at, self.u64(at)))
            .find(|found| found.1 != word)
    }

    /// Unmaps a part. The rest stays mapped until the process ends: in a hole something else may come to lie.
    pub fn unmap_part(&mut self, at: usize, len: usize) -> Result<()> {
        assert!(at + len <= self.len);
        self.whole = false;
        // SAFETY: the part belongs to this mapping, to which there are no references.
        check(unsafe { libc::munmap((self.start + at) as *mut _, len) }.into()).map(drop)
    }

    /// Unmaps everything; an error is the test's business.
    pub fn unmap(mut self) -> Result<()> {
        let len = self.len;
        self.unmap_part(0, len)
    }

    /// Gives a part a value of its own; neither is unmapped before the process ends.
    pub fn split_off(&mut self, at: usize, len: usize) -> Self {
        assert!(at + len <= self.len);
        self.whole = false;
        Self {
            start: self.start + at,
            len,
            whole: false,
        }
    }

    pub fn protect(&self, prot: i32) -> Result<()> {
        self.protect_part(0, self.len, prot)
    }

    pub fn protect_part(&self, at: usize, len: usize, prot: i32) -> Result<()> {
        assert!(at + len <= self.len);
        // SAFETY: the part belongs to this mapping; accesses it no longer allows raise a signal.
        check(unsafe { libc::mprotect((self.start + at) as *mut _, len, prot) }.into()).map(drop)
    }

    pub fn advise(&self, at: usize, len: usize, advice: i32) -> Result<()> {
        assert!(at + len <= self.len);
        // SAFETY: the part belongs to this mapping, which is looked at by volatile accesses only.
        check(unsafe { libc::madvise((self.start + at) as *mut _, len, advice) }.into()).map(drop)
    }

    /// Gives the mapping another length, and lets the kernel move it if `flags` say so.
    pub fn remap(&mut self, old_len: usize, new_len: usize, flags: i32) -> Result<()> {
        assert!(old_len <= self.len && flags & libc::MREMAP_FIXED == 0);
        // SAFETY: the old range belongs to this mapping, and without MREMAP_FIXED nothing is replaced.
        let start = unsafe { libc::mremap(self.start as *mut _, old_len, new_len, flags) };
        self.start = check(start as libc::c_long)? as usize;
        self.len = new_len;
        Ok(())
    }

    /// Moves the mapping to where `room` was.
    pub fn move_over(&mut self, mut room: Self) -> Result<()> {
        assert!(room.len >= self.len && room.whole);
        room.whole = false;
        // SAFETY: what is replaced is `room`, which is gone from here on.
        let start = unsafe {
            libc::mremap(
                self.start as *mut _,
                self.len,
                self.len,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                room.start as *mut libc::c_void,
            )
        };
        self.start = check(start as libc::c_long)? as usize;
        Ok(())
    }

    /// Maps a file over a part of this mapping.
    pub fn map_over(
        &mut self,
        at: usize,
        len: usize,
        file: &impl AsFd,
        prot: i32,
        flags: i32,
        offset: u64,
    ) -> Result<()> {
        assert!(at + len <= self.len && offset % PAGE as u64 == 0);
        let fd = file.as_fd().as_raw_fd();
        let address = (self.start + at) as *mut libc::c_void;
        // SAFETY: what is replaced belongs to this mapping.
        let start = unsafe {
            libc::mmap(
                address,
                len,
                prot,
                flags | libc::MAP_FIXED,
                fd,
                offset as i64,
            )
        };
        check(start as libc::c_long).map(drop)
    }
}

/// Unmaps whatever is left of a mapping that was cut up.
pub fn unmap_range(start: usize, len: usize) -> Result<()> {
    // SAFETY: the caller's mapping was there, to which there are no references, and nothing was mapped since.
    check(unsafe { libc::munmap(start as *mut _, len) }.into()).map(drop)
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.whole {
            // SAFETY: the range is this mapping's own, to which there are no references.
            unsafe { libc::munmap(self.start as *mut _, self.len) };
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    Exited(i32),
    Signalled(i32),
}

/// A process of ours.
pub struct Child {
    pub pid: i32,
}

/// Runs a function in a new process, which ends with it.
pub fn fork(body: impl FnOnce() -> i32) -> Result<Child> {
    // SAFETY: the process has one thread where this is called, or the child calls nothing that another thread could
    // have left locked but the allocator, which glibc makes safe to use after a fork.
    let pid = check(unsafe { libc::fork() }.into())? as i32;
    if pid != 0 {
        return Ok(Child { pid });
    }
    let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(status) }
}

impl Child {
    pub fn kill(&self, signal: i32) {
        // SAFETY: a child that was not waited for keeps its number.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Kills the child and everything in the process group that it leads.
    pub fn kill_group(&self) {
        // SAFETY: as above.
        unsafe { libc::kill(-self.pid, libc::SIGKILL) };
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<Ending> {
        let mut status = 0;
        // SAFETY: `status` is valid for the call.
        let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) };
        (pid == self.pid).then(|| ending(status))
    }

    /// Waits for its end.
    pub fn wait(&self) -> Ending {
        let mut status = 0;
        // SAFETY: `status` is valid for the call.
        while unsafe { libc::waitpid(self.pid, &mut status, 0) } != self.pid {}
        ending(status)
    }
}

fn ending(status: i32) -> Ending {
    if libc::WIFSIGNALED(status) {
        return Ending::Signalled(libc::WTERMSIG(status));
    }
    Ending::Exited(libc::WEXITSTATUS(status))
}

/// Takes the children that have ended and that nobody waits for.
pub fn reap() {
    // SAFETY: without a status pointer nothing is written.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Makes orphans of this process's descendants its children.
pub fn adopt_orphans() {
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Makes this process the leader of a new process group.
pub fn lead_group() {
    // SAFETY: takes numbers only.
    unsafe { libc::setpgid(0, 0) };
}

/// Gives up root's rights and becomes this user, who is in this group alone.
pub fn become_user(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: an empty list needs no pointer.
    check(unsafe { libc::setgroups(0, std::ptr::null()) }.into())?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::setresgid(gid, gid, gid) }.into())?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::setresuid(uid, uid, uid) }.into())?;
    Ok(())
}

/// Becomes root of a new user namespace, who is nobody outside of it.
pub fn enter_user_namespace() -> Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()).map(drop)
}

/// Sets how much this process may map, in bytes.
pub fn limit_address_space(bytes: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is valid for the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }.into()).map(drop)
}

/// The number of this thread.
pub fn thread_id() -> i32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// Sets the personality; `u32::MAX` only reads it.
pub fn personality(persona: u32) -> Result<u32> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::personality(persona.into()) }.into()).map(|persona| persona as u32)
}

/// A pipe: what is read, what is written.
pub fn pipe() -> Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    Ok((own(ends[0]), own(ends[1])))
}

/// A file without a name, in memory.
pub fn memfd() -> Result<File> {
    // SAFETY: the name ends with a zero.
    let fd = check(unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC) }.into())?;
    Ok(own(fd as i32))
}

/// A file in memory of so many bytes, which cannot shrink.
pub fn sealed_memfd(bytes: usize) -> Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name ends with a zero.
    let fd = check(unsafe { libc::memfd_create(c"test".as_ptr(), flags) }.into())?;
    let memfd = own(fd as i32);
    memfd.set_len(bytes as u64)?;
    let fd = memfd.as_raw_fd();
    // SAFETY: a system call without pointers.
    check(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) }.into())?;
    Ok(memfd)
}

/// Opens a file with these flags, any access mode included.
pub fn open_with(path: &std::path::Path, flags: i32) -> Result<File> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the path is valid for the call.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }.into())?;
    Ok(own(fd as i32))
}

/// Has this thread's memory come from one NUMA node.
pub fn bind_memory(node: u32) -> Result<()> {
    let nodes = 1_u64 << node;
    // SAFETY: the mask is valid for the call, and as long as it says: 64 bits, counted from 1.
    let result = unsafe {
        libc::syscall(
            libc::SYS_set_mempolicy,
            libc::MPOL_BIND,
            std::ptr::from_ref(&nodes),
            65_usize,
        )
    };
    check(result).map(drop)
}

/// What the kernel tells of devices that come and go.
pub struct Uevents(File);

impl Uevents {
    /// From now on.
    pub fn listen() -> Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) };
        let socket = own(check(fd.into())? as i32);
        // SAFETY: the struct has integers only.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        // The kernel's own group.
        address.nl_groups = 1;
        let size = size_of::<libc::sockaddr_nl>() as u32;
        let to = std::ptr::from_ref(&address).cast();
        // SAFETY: the address is valid for the call, and as long as it says.
        check(unsafe { libc::bind(socket.as_raw_fd(), to, size) }.into())?;
        Ok(Self(socket))
    }

    /// Each event so far, as text: the action and the device, then its properties.
    pub fn heard(mut self) -> std::io::Result<Vec<String>> {
        let mut events = Vec::new();
        let mut bytes = vec![0; 16 << 10];
        loop {
            match std::io::Read::read(&mut self.0, &mut bytes) {
                Ok(size) => events.push(String::from_utf8_lossy(&bytes[..size]).into_owned()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Takes a descriptor that a system call just gave to us.
pub fn own(fd: i32) -> File {
    // SAFETY: the callers pass a descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }.into()
}

/// Opens a file a second time under this number, which must be one that nobody here owns.
pub fn duplicate(file: &impl AsFd, number: i32) -> Result<()> {
    // SAFETY: the caller knows that no value of this program owns the number.
    check(unsafe { libc::dup3(file.as_fd().as_raw_fd(), number, libc::O_CLOEXEC) }.into()).map(drop)
}

/// Closes a descriptor by its number, which must be one that nobody here owns.
pub fn close_number(fd: i32) -> Result<()> {
    // SAFETY: the caller knows that no value of this program owns the number.
    check(unsafe { libc::close(fd) }.into()).map(drop)
}

/// `lseek(2)`, with its numbers as they are.
pub fn seek(file: &impl AsFd, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::lseek(file.as_fd().as_raw_fd(), offset, whence) })
}

/// `pread` into memory that a mapping holds, at an address that may be bad.
pub fn pread_mapped(
    file: &impl AsFd,
    map: &Map,
    at: usize,
    len: usize,
    offset: i64,
) -> Result<usize> {
    // SAFETY: what the kernel writes there hurts no Rust object; beyond the mapping lies what the caller protected.
    let result = unsafe {
        libc::pread(
            file.as_fd().as_raw_fd(),
            (map.start + at) as *mut _,
            len,
            offset,
        )
    };
    check(result as libc::c_long).map(|count| count as usize)
}

/// `pwrite` from memory that a mapping holds, at an address that may be bad.
pub fn pwrite_mapped(
    file: &impl AsFd,
    map: &Map,
    at: usize,
    len: usize,
    offset: i64,
) -> Result<usize> {
    // SAFETY: the kernel only reads, and faults where it may not.
    let result = unsafe {
        libc::pwrite(
            file.as_fd().as_raw_fd(),
            (map.start + at) as *const _,
            len,
            offset,
        )
    };
    check(result as libc::c_long).map(|count| count as usize)
}

/// `process_vm_readv` from a mapping of this process.
pub fn vm_read(map: &Map, at: usize, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0_u8; len];
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: len,
    };
    let remote = libc::iovec {
        iov_base: (map.start + at) as *mut _,
        iov_len: len,
    };
    let pid = std::process::id() as i32;
    // SAFETY: the local vector names `bytes`; the remote one is only read.
    let count = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
    bytes.truncate(check(count as libc::c_long)? as usize);
    Ok(bytes)
}

/// `vmsplice` of a part of a mapping into a pipe, which pins its pages.
pub fn vmsplice(pipe: &impl AsFd, map: &Map, at: usize, len: usize) -> Result<usize> {
    assert!(at + len <= map.len);
    let part = libc::iovec {
        iov_base: (map.start + at) as *mut _,
        iov_len: len,
    };
    // SAFETY: the vector names a part of a mapping, which the kernel only reads.
    let count = unsafe { libc::vmsplice(pipe.as_fd().as_raw_fd(), &part, 1, 0) };
    check(count as libc::c_long).map(|count| count as usize)
}

/// Registers a mapping as a fixed buffer of `io_uring`, which pins its pages for long. `None` where there is no
/// `io_uring`.
pub fn register_fixed_buffer(map: &Map) -> Option<Result<()>> {
    // `struct io_uring_params` of include/uapi/linux/io_uring.h has 120 bytes.
    let mut parameters = [0_u64; 15];
    // SAFETY: the parameters have the size that the kernel writes back.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    let ring = own(check(ring).ok()? as i32);
    let buffer = libc::iovec {
        iov_base: map.start as *mut _,
        iov_len: map.len,
    };
    const REGISTER_BUFFERS: libc::c_uint = 0;
    // SAFETY: the vector names a mapping, which outlives the ring.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            REGISTER_BUFFERS,
            &buffer,
            1,
        )
    };
    Some(check(result).map(drop))
}

/// Faults in all that this process has mapped, so that it takes no faults of its own later.
pub fn lock_memory() -> Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT) }.into()).map(drop)
}

/// Allows so many descriptors.
pub fn limit_descriptors(most: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: the limit is valid for the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }.into()).map(drop)
}

/// Mounts a file system that needs no device.
pub fn mount(fstype: &str, at: &str) -> Result<()> {
    let fstype = CString::new(fstype).map_err(|_| Errno(libc::EINVAL))?;
    let at = CString::new(at).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: both are C strings, and no data is passed.
    let mounted = unsafe {
        libc::mount(
            fstype.as_ptr(),
            at.as_ptr(),
            fstype.as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    check(mounted.into()).map(drop)
}

/// Two sockets that are connected.
pub fn sockets() -> Result<[File; 2]> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()) };
    check(made.into())?;
    Ok(ends.map(own))
}

/// Sends a file, and the socket's own other end, to a socket that nobody reads from and that is closed then: what is
/// left is a cycle of files that only the kernel can find.
pub fn send_to_nobody(file: &File) -> Result<()> {
    let ends = sockets()?;
    let sent = [file.as_raw_fd(), ends[0].as_raw_fd(), ends[1].as_raw_fd()];
    let mut byte = [0_u8];
    let mut data = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // A `struct cmsghdr`: its length, level and type; then the descriptors.
    let pair = |low: i32, high: i32| u64::from(low as u32) | u64::from(high as u32) << 32;
    let mut control = [
        16 + size_of_val(&sent) as u64,
        pair(libc::SOL_SOCKET, libc::SCM_RIGHTS),
        pair(sent[0], sent[1]),
        pair(sent[2], 0),
    ];
    // SAFETY: all zeros are a valid header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message names memory that outlives the call.
    let count = unsafe { libc::sendmsg(ends[0].as_raw_fd(), &message, 0) };
    check(count as libc::c_long).map(drop)
}

/// Puts the pages of a mapping into a pipe, without a copy.
pub fn splice_memory(pipe: &File, map: &Map, at: usize, len: usize) -> Result<usize> {
    assert!(at + len <= map.len);
    let vector = libc::iovec {
        iov_base: (map.start + at) as *mut _,
        iov_len: len,
    };
    // SAFETY: the vector names memory of the mapping, which is only read.
    let count = unsafe { libc::vmsplice(pipe.as_raw_fd(), &vector, 1, 0) };
    check(count as libc::c_long).map(|count| count as usize)
}

/// An `io_uring`, for what can be registered with one.
pub struct Ring(File);

impl Ring {
    pub fn new() -> Result<Self> {
        // struct io_uring_params, which the kernel fills in.
        let mut parameters = [0_u32; 30];
        // SAFETY: the struct has 120 bytes.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
        Ok(Self(own(check(fd)? as i32)))
    }

    /// Registers a part of a mapping as a fixed buffer, which pins its pages until the ring is gone.
    pub fn register(&self, map: &Map, at: usize, len: usize) -> Result<()> {
        const REGISTER_BUFFERS: i32 = 0;
        assert!(at + len <= map.len);
        let vector = libc::iovec {
            iov_base: (map.start + at) as *mut _,
            iov_len: len,
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: the vector names memory of the mapping, which nothing is read into.
        check(unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                fd,
                REGISTER_BUFFERS,
                &raw const vector,
                1,
            )
        })
        .map(drop)
    }
}

/// Uses a device as swap.
pub fn swap_on(device: &str) -> Result<()> {
    let path = CString::new(device).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the path is a C string.
    check(unsafe { libc::swapon(path.as_ptr(), 0) }.into()).map(drop)
}

/// Uses it no longer.
pub fn swap_off(device: &str) -> Result<()> {
    let path = CString::new(device).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the path is a C string.
    check(unsafe { libc::swapoff(path.as_ptr()) }.into()).map(drop)
}

/// Loads a module.
pub fn load_module(file: &File, parameters: &str) -> Result<()> {
    let parameters = CString::new(parameters).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the parameters are a C string.
    check(unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            parameters.as_ptr(),
            0,
        )
    })
    .map(drop)
}

/// Unloads a module, or says at once why not.
pub fn unload_module(name: &str) -> Result<()> {
    let name = CString::new(name).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the name is a C string.
    check(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) })
        .map(drop)
}

/// Asks again and again until the answer is yes or the time is over, which is longer in a slow kernel; the guest's own
/// time, so a busy host takes nothing of it.
pub fn until(limit: Duration, mut answer: impl FnMut() -> bool) -> bool {
    let limit = limit * mapbuf_guest::patience();
    let start = Stopwatch::start();
    loop {
        if answer() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
