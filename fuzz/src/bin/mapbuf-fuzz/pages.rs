//! Tricks with pages, for the raw fuzzer: a thread that rewrites structs, and a page that only comes when the driver
//! reads it.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the reason of a block covers the steps that belong together"
)]

use mapbuf_fuzz::op::PAGE;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

/// Where the racing thread writes, or 0; and how many words it may write to.
static TARGET: AtomicUsize = AtomicUsize::new(0);
static WORDS: AtomicU32 = AtomicU32::new(0);
/// It may be about to write to what it last read as its target.
static WRITES: AtomicBool = AtomicBool::new(false);

/// A thread that writes to the words of a struct as long as it is told to.
pub struct Racer(());

impl Racer {
    /// Starts it.
    pub fn start() -> Self {
        thread::spawn(|| {
            let mut rng = fastrand::Rng::with_seed(1);
            loop {
                WRITES.store(false, Ordering::SeqCst);
                if TARGET.load(Ordering::SeqCst) == 0 {
                    thread::yield_now();
                    continue;
                }
                WRITES.store(true, Ordering::SeqCst);
                let target = TARGET.load(Ordering::SeqCst);
                if target == 0 {
                    continue;
                }
                let word = rng.u32(..WORDS.load(Ordering::Relaxed).max(1));
                // An address that the driver is to write to stays what it is.
                if [6, 7].contains(&word) {
                    continue;
                }
                let value = match rng.u32(..4) {
                    0 => 0,
                    1 => rng.u32(..300),
                    2 => 4096,
                    _ => rng.u32(..),
                };
                let place = (target + 4 * word as usize) as *mut u32;
                // SAFETY: whoever set the target keeps so many words there, and looks at them by copies only.
                unsafe { place.write_volatile(value) };
            }
        });
        Self(())
    }

    /// Has it write to `words` words from an address on while `f` runs.
    ///
    /// The address is one of pages that nobody refers to.
    pub fn during<T>(&self, address: usize, words: u32, f: impl FnOnce() -> T) -> T {
        WORDS.store(words, Ordering::Relaxed);
        TARGET.store(address, Ordering::SeqCst);
        let result = f();
        TARGET.store(0, Ordering::SeqCst);
        while WRITES.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        result
    }
}

/// What the handler of a late page is to put there.
static BODY: [AtomicU32; PAGE / 4] = [const { AtomicU32::new(0) }; PAGE / 4];
static NEW_SIZE: AtomicU32 = AtomicU32::new(0);
static LATE: AtomicBool = AtomicBool::new(false);

/// Two pages, of which the second comes when it is touched. Just before it comes, the last word of the first, which has
/// been read already, is written to: a driver that reads it a second time sees another value.
pub struct LatePage {
    start: usize,
}

const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_COPY: u64 = 0xc028_aa03;

impl LatePage {
    /// Makes one, where the kernel has userfaultfd.
    pub fn new() -> Option<Self> {
        // SAFETY: `userfaultfd` touches no memory, and the mapping is at an address of the kernel's choice.
        let (fd, start) = unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) as i32;
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(std::ptr::null_mut(), 2 * PAGE, prot, flags, -1, 0);
            (fd, start as usize)
        };
        if fd < 0 || start as isize == -1 {
            return None;
        }
        let mut api = [0xaa_u64, 0, 0];
        let mut register = [(start + PAGE) as u64, PAGE as u64, 1, 0];
        // SAFETY: the structs have the sizes that the numbers say.
        let well = unsafe {
            libc::ioctl(fd, UFFDIO_API, api.as_mut_ptr()) == 0
                && libc::ioctl(fd, UFFDIO_REGISTER, register.as_mut_ptr()) == 0
        };
        if !well {
            return None;
        }
        thread::spawn(move || answer(fd, start));
        Some(Self { start })
    }

    /// Calls `f` with the address of a struct, whose first word lies in the first page; it turns to `new_size` before
    /// the rest can be read. Answers also with what the struct is then, and whether the page was asked for.
    pub fn with<T>(
        &self,
        bytes: &[u8],
        new_size: u32,
        f: impl FnOnce(usize) -> T,
    ) -> (T, Vec<u8>, bool) {
        let place = self.start + PAGE - 4;
        let word = |at: usize| {
            let mut own = [0; 4];
            if let Some(bytes) = bytes.get(at..at + 4) {
                own.copy_from_slice(bytes);
            }
            u32::from_ne_bytes(own)
        };
        for (number, to) in BODY.iter().enumerate() {
            to.store(word(4 + 4 * number), Ordering::Relaxed);
        }
        NEW_SIZE.store(new_size, Ordering::Relaxed);
        LATE.store(false, Ordering::SeqCst);
        // SAFETY: both pages are ours, and nobody refers to them.
        unsafe {
            libc::madvise((self.start + PAGE) as *mut _, PAGE, libc::MADV_DONTNEED);
            (place as *mut u32).write_volatile(word(0));
        }
        let result = f(place);
        let late = LATE.load(Ordering::SeqCst);
        let mut after = vec![0; bytes.len()];
        for (at, byte) in after.iter_mut().enumerate() {
            // SAFETY: within the two pages.
            *byte = unsafe { ((place + at) as *const u8).read_volatile() };
        }
        (result, after, late)
    }
}

/// Answers the faults of the second page.
fn answer(fd: i32, start: usize) {
    let mut message = [0_u64; 4];
    loop {
        // SAFETY: there is room for one `uffd_msg` of 32 bytes.
        let count = unsafe { libc::read(fd, message.as_mut_ptr().cast(), 32) };
        if count != 32 {
            return;
        }
        // SAFETY: the first page is there, and nobody refers to it.
        unsafe {
            let place = (start + PAGE - 4) as *mut u32;
            place.write_volatile(NEW_SIZE.load(Ordering::Relaxed));
        }
        LATE.store(true, Ordering::SeqCst);
        let from = (&raw const BODY) as u64;
        let mut copy = [(start + PAGE) as u64, from, PAGE as u64, 0, 0];
        // SAFETY: the struct has the size that the number says; source and destination are a page each.
        unsafe { libc::ioctl(fd, UFFDIO_COPY, copy.as_mut_ptr()) };
    }
}

/// Which places of the driver's code a thread has run through, where the kernel can tell.
pub struct Coverage {
    area: *const u64,
}

/// Words that the kernel may fill.
const AREA: usize = 1 << 16;

impl Coverage {
    /// Begins to look at this thread.
    pub fn new() -> Option<Self> {
        const KCOV_INIT_TRACE: u64 = 0x8008_6301;
        const KCOV_ENABLE: u64 = 0x6364;
        let path = c"/sys/kernel/debug/kcov";
        // SAFETY: the path is a string, the ioctls take numbers, and the mapping is at an address of the kernel's
        // choice.
        unsafe {
            let fd = libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            if fd < 0 || libc::ioctl(fd, KCOV_INIT_TRACE, AREA) != 0 {
                return None;
            }
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let area = libc::mmap(
                std::ptr::null_mut(),
                AREA * 8,
                prot,
                libc::MAP_SHARED,
                fd,
                0,
            );
            if area as isize == -1 || libc::ioctl(fd, KCOV_ENABLE, 0) != 0 {
                return None;
            }
            Some(Self {
                area: area.cast_const().cast(),
            })
        }
    }

    /// The places that `f` ran through. Only the driver is built to tell.
    pub fn of<T>(&self, f: impl FnOnce() -> T) -> (T, Vec<u64>) {
        // SAFETY: the first word is the number of the others; this thread alone has them written, by system calls.
        unsafe {
            self.area.cast_mut().write_volatile(0);
            let result = f();
            let count = (self.area.read_volatile() as usize).min(AREA - 1);
            let places = (1..=count).map(|at| self.area.add(at).read_volatile());
            (result, places.collect())
        }
    }
}
