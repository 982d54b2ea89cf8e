//! Memory that operations work on: the pages for mappings, where a fault ends the access only, and a desk for structs.

use crate::sys::{check, close, ioctl, only, Errno, NOWHERE};
use mapbuf_abi::{Segment, ADDRESS_HIDDEN};
use mapbuf_fuzz::answer::mix;
use mapbuf_fuzz::op::{PAGE, PAGES};

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

const _: () = assert!(PAGES as usize * PAGE < 1 << 40);
