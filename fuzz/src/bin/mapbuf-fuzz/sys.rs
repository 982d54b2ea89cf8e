//! System calls, as safe functions; the only file here with `unsafe` in it.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the reason of a block covers the steps that belong together"
)]

use mapbuf_abi::{Segment, ADDRESS_HIDDEN};
use mapbuf_fuzz::answer::{mix, Answer};
use mapbuf_fuzz::op::{PAGE, PAGES};
use std::ffi::CString;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// An `errno`, 0 for none.
pub type Errno = i32;

fn errno() -> Errno {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(result: i64) -> Result<i64, Errno> {
    match result {
        -1 => Err(errno()),
        result => Ok(result),
    }
}

/// The error of a call that answers with nothing else.
fn only(result: i64) -> Errno {
    check(result).err().unwrap_or(0)
}

std::arch::global_asm!(
    // fuzz_copy(to, from, length): 0, or the signal that stopped it.
    ".globl fuzz_copy",
    "fuzz_copy:",
    "mov rcx, rdx",
    "shr rcx, 3",
    "rep movsq",
    "mov rcx, rdx",
    "and rcx, 7",
    "rep movsb",
    "xor eax, eax",
    ".globl fuzz_copy_end",
    "fuzz_copy_end:",
    "ret",
);

extern "C" {
    fn fuzz_copy(to: usize, from: usize, length: usize) -> i32;
    fn fuzz_copy_end();
}

/// Makes a fault in [`fuzz_copy`] end it; any other kills the process.
extern "C" fn on_fault(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let begin = fuzz_copy as *const () as usize as i64;
    let end = fuzz_copy_end as *const () as usize as i64;
    // SAFETY: the kernel passes the context of the thread that was stopped.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize];
    if at >= begin && at < end {
        registers[libc::REG_RIP as usize] = end;
        registers[libc::REG_RAX as usize] = signal.into();
        return;
    }
    // SAFETY: the default action, which the instruction meets when it is done again.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Has faults answered; once, before any process is made.
pub fn catch_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: all zeros are a value of the type.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler changes registers only.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

/// Where the pages for mappings begin: far from everything that the kernel places by itself.
pub const ARENA: usize = 0x2000_0000_0000;

/// The address of a page.
pub fn address(page: u32) -> usize {
    ARENA + page as usize * PAGE
}

/// Copies out of a page of the arena, within the page; the signal, or 0.
pub fn load(page: u64, at: usize, to: &mut [u8]) -> i32 {
    let from = ARENA + page as usize * PAGE + at;
    // SAFETY: the destination is ours; nothing of ours lies in the arena, and a fault is answered.
    unsafe { fuzz_copy(to.as_mut_ptr() as usize, from, to.len()) }
}

/// Copies into a page of the arena, within the page; the signal, or 0.
pub fn store(page: u64, at: usize, from: &[u8]) -> i32 {
    let to = ARENA + page as usize * PAGE + at;
    // SAFETY: as above.
    unsafe { fuzz_copy(to, from.as_ptr() as usize, from.len()) }
}

/// `mmap` at a page.
pub fn map(fd: i32, at: u32, pages: u32, prot: u8, flags: i32, offset: u64) -> Errno {
    let flags = flags | libc::MAP_FIXED_NOREPLACE;
    let (start, len) = (address(at) as *mut libc::c_void, pages as usize * PAGE);
    // SAFETY: nothing that is mapped is replaced.
    let result = unsafe { libc::mmap(start, len, prot.into(), flags, fd, offset as i64) };
    only(result as i64)
}

/// `munmap`
pub fn unmap(at: u32, pages: u32) -> Errno {
    // SAFETY: nothing of ours lies in the arena.
    let result = unsafe { libc::munmap(address(at) as *mut _, pages as usize * PAGE) };
    only(result.into())
}

/// `mprotect`
pub fn protect(at: u32, pages: u32, prot: u8) -> Errno {
    let len = pages as usize * PAGE;
    // SAFETY: nothing of ours lies in the arena.
    let result = unsafe { libc::mprotect(address(at) as *mut _, len, prot.into()) };
    only(result.into())
}

/// `mremap` to another page.
pub fn relocate(at: u32, pages: u32, to: u32) -> Errno {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let (from, len) = (address(at) as *mut libc::c_void, pages as usize * PAGE);
    // SAFETY: nothing of ours lies in the arena, at either place.
    let result = unsafe { libc::mremap(from, len, len, flags, address(to) as *mut libc::c_void) };
    only(result as i64)
}

/// `mremap` to another length.
pub fn resize(at: u32, old: u32, new: u32) -> Errno {
    let (old, new) = (old as usize * PAGE, new as usize * PAGE);
    // SAFETY: nothing of ours lies in the arena.
    let result = unsafe { libc::mremap(address(at) as *mut _, old, new, 0) };
    only(result as i64)
}

/// `madvise(MADV_DONTNEED)`
pub fn forget(at: u32, pages: u32) -> Errno {
    let len = pages as usize * PAGE;
    // SAFETY: nothing of ours lies in the arena.
    let result = unsafe { libc::madvise(address(at) as *mut _, len, libc::MADV_DONTNEED) };
    only(result.into())
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
const NOWHERE: usize = 16;

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

/// Pages to pass structs in: two that can be written, one behind them that is not there, and the two once more so that
/// they can only be read.
pub struct Desk {
    start: usize,
    read_only: usize,
}

impl Desk {
    /// Makes one.
    pub fn new() -> Result<Self, Errno> {
        let map = |at: usize, pages: usize, prot: i32, flags: i32, fd: i32| {
            let (at, len) = (at as *mut libc::c_void, pages * PAGE);
            // SAFETY: at an address of its own choice, or over a reservation of ours.
            let result = unsafe { libc::mmap(at, len, prot, flags, fd, 0) };
            check(result as i64).map(|at| at as usize)
        };
        // SAFETY: the name is a string.
        let fd = check(unsafe { libc::memfd_create(c"desk".as_ptr(), 0) }.into())? as i32;
        // SAFETY: the descriptor is ours.
        check(unsafe { libc::ftruncate(fd, 2 * PAGE as i64) }.into())?;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let start = map(0, 3, libc::PROT_NONE, private, -1)?;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        map(start, 2, both, libc::MAP_SHARED | libc::MAP_FIXED, fd)?;
        let read_only = map(0, 2, libc::PROT_READ, libc::MAP_SHARED, fd)?;
        close(fd);
        Ok(Self { start, read_only })
    }

    /// Bytes that fit.
    pub const ROOM: usize = 2 * PAGE;

    /// Writes bytes, at most as many as fit.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        let length = bytes.len().min(Self::ROOM - at.min(Self::ROOM));
        // SAFETY: within the two pages.
        unsafe { fuzz_copy(self.start + at, bytes.as_ptr() as usize, length) };
    }

    /// Reads bytes back.
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        let length = bytes.len().min(Self::ROOM - at.min(Self::ROOM));
        // SAFETY: within the two pages.
        unsafe { fuzz_copy(bytes.as_mut_ptr() as usize, self.start + at, length) };
    }

    /// `ioctl` with the struct that begins at a byte, which may pass the end.
    pub fn ioctl(&self, fd: i32, number: u32, at: usize) -> Errno {
        ioctl(fd, number, self.start + at)
    }

    /// The address of a byte, for whoever only writes to it.
    pub fn address(&self, at: usize) -> usize {
        self.start + at
    }

    /// The same with an address of the kernel's own.
    pub fn ioctl_kernel(&self, fd: i32, number: u32) -> Errno {
        ioctl(fd, number, 0xffff_8880_0000_1000)
    }

    /// The same with a struct that cannot be written.
    pub fn ioctl_read_only(&self, fd: i32, number: u32, at: usize) -> Errno {
        ioctl(fd, number, self.read_only + at)
    }

    /// The same with an address at which there is nothing.
    pub fn ioctl_nowhere(&self, fd: i32, number: u32) -> Errno {
        ioctl(fd, number, NOWHERE)
    }
}

/// `ioctl` with a struct in pages that nobody refers to.
pub fn ioctl_at(fd: i32, number: u32, address: usize) -> Errno {
    ioctl(fd, number, address)
}

/// Closes a descriptor and all after it.
pub fn close_from(first: i32) {
    // SAFETY: the caller has opened them all, or had them opened by the driver.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

fn ioctl(fd: i32, number: u32, address: usize) -> Errno {
    // SAFETY: what the driver may write to lies on the desk, or in the rows that a struct there names.
    only(unsafe { libc::ioctl(fd, number.into(), address) }.into())
}

/// Room for the rows of `SEGMENTS`.
pub struct Rows(Vec<Segment>);

impl Rows {
    /// As many as a buffer can have pages here.
    pub const COUNT: usize = 4096;

    /// Makes room.
    pub fn new() -> Self {
        Self(vec![Segment::default(); Self::COUNT])
    }

    /// For the struct.
    pub fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The rows that were written.
    pub fn get(&self, count: u32) -> impl Iterator<Item = Segment> + '_ {
        // SAFETY: the driver has written to the rows meanwhile, which are plain integers.
        let row = |row: &Segment| unsafe { std::ptr::read_volatile(row) };
        self.0.iter().take(count as usize).map(row)
    }

    /// What an answer says of them: a digest, and how many show a physical and a DMA address.
    pub fn digest(&self, count: u32) -> [u64; 3] {
        let mut all = [0; 3];
        for row in self.get(count) {
            all[0] = mix(mix(all[0], row.offset), row.length);
            all[1] += u64::from(row.physical_address != ADDRESS_HIDDEN);
            all[2] += u64::from(row.dma_address != ADDRESS_HIDDEN);
        }
        all
    }
}

/// The bytes of a struct of the interface.
pub fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: the callers pass the structs of `abi`, which have no padding.
    unsafe { std::slice::from_raw_parts((value as *const T).cast::<u8>(), size_of::<T>()) }
}

/// Sets the bytes of a struct of the interface.
pub fn set_bytes<T: Copy>(value: &mut T, bytes: &[u8]) {
    if bytes.len() >= size_of::<T>() {
        // SAFETY: the callers pass the structs of `abi`, of which all bytes are values.
        *value = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) };
    }
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

/// The most steps in a program.
pub const STEPS: usize = 8192;
/// The most physical runs that a program's buffers have in all.
const RUNS: usize = 1 << 20;

#[repr(C)]
struct Record {
    answer: Answer,
    runs: [u32; 2],
}

#[repr(C)]
struct Board {
    cursor: AtomicU32,
    died: AtomicI32,
    runs: AtomicU32,
    records: [Record; STEPS],
    lengths: [u32; RUNS],
}

/// Memory that all processes share: which step is next, and the answers. Only who has the turn touches it.
#[derive(Clone, Copy)]
pub struct Shared(*mut Board);

impl Shared {
    /// Makes it.
    pub fn new() -> Result<Self, Errno> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: at an address of the kernel's choice.
        let result =
            unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Board>(), prot, flags, -1, 0) };
        check(result as i64)?;
        Ok(Self(result.cast()))
    }

    fn board(&self) -> &Board {
        // SAFETY: the memory is there for good, and zeros are a value; answers are not looked at through this.
        unsafe { &*self.0 }
    }

    /// Forgets everything.
    pub fn reset(&self) {
        let board = self.board();
        board.cursor.store(0, Ordering::SeqCst);
        board.died.store(0, Ordering::SeqCst);
        board.runs.store(0, Ordering::SeqCst);
    }

    /// The step that is next.
    pub fn cursor(&self) -> usize {
        self.board().cursor.load(Ordering::SeqCst) as usize
    }

    /// Says which step is next.
    pub fn set_cursor(&self, step: usize) {
        self.board().cursor.store(step as u32, Ordering::SeqCst);
    }

    /// The status of a process that died untold, or 0.
    pub fn died(&self) -> i32 {
        self.board().died.load(Ordering::SeqCst)
    }

    /// Notes that a process died untold.
    pub fn set_died(&self, status: i32) {
        self.board().died.store(status, Ordering::SeqCst);
    }

    /// Notes the answer of a step, and the physical runs that it told of.
    pub fn record(&self, step: usize, answer: Answer, runs: &[u32]) {
        let board = self.board();
        let first = board.runs.load(Ordering::SeqCst) as usize;
        let runs = if first + runs.len() > RUNS { &[] } else { runs };
        board
            .runs
            .store((first + runs.len()) as u32, Ordering::SeqCst);
        assert!(step < STEPS);
        let record = Record {
            answer,
            runs: [first as u32, runs.len() as u32],
        };
        // SAFETY: within the arrays; only the process whose turn it is writes, and nobody reads meanwhile.
        unsafe {
            (&raw mut (*self.0).records[step]).write(record);
            let lengths = (&raw mut (*self.0).lengths).cast::<u32>();
            lengths
                .add(first)
                .copy_from_nonoverlapping(runs.as_ptr(), runs.len());
        }
    }

    /// The answer of a step, and the runs.
    pub fn answer(&self, step: usize) -> (Answer, Vec<u64>) {
        assert!(step < STEPS);
        // SAFETY: within the arrays; nobody writes now.
        unsafe {
            let record = (&raw const (*self.0).records[step]).read();
            let [first, count] = record.runs;
            let lengths = (&raw const (*self.0).lengths).cast::<u32>();
            let runs = (0..count).map(|at| u64::from(lengths.add((first + at) as usize).read()));
            (record.answer, runs.collect())
        }
    }
}

/// A dma-buf of another driver, if this kernel has one that makes them.
pub fn foreign_dma_buf() -> Option<i32> {
    let heap = open("/dev/dma_heap/system", 2).ok()?;
    // DMA_HEAP_IOCTL_ALLOC of include/uapi/linux/dma-heap.h: u64 len, u32 fd, u32 fd_flags, u64 heap_flags.
    let mut request = [PAGE as u64, (libc::O_RDWR as u64) << 32, 0];
    let number = 3 << 30 | 24 << 16 | u32::from(b'H') << 8;
    // SAFETY: the struct has that size.
    let result = unsafe { libc::ioctl(heap, number.into(), request.as_mut_ptr()) };
    close(heap);
    (result == 0).then_some(request[1] as u32 as i32)
}

const _: () = assert!(PAGES as usize * PAGE < 1 << 40);
