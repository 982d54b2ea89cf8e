//! The calls that programs make on a descriptor, without knowing what it is: the table of the guide, row by row.

use super::attached::dma_buffer;
use super::devices::Bound;
use crate::check::{Failure, Outcome};
use crate::session::{named_path, Session};
use crate::sys::{self, PAGE};
use mapbuf_abi::{Alloc, Kind};
use rustix::event::{epoll, poll, PollFd, PollFlags, Timespec};
use rustix::fs::{self, Advice, FallocateFlags, FlockOperation};
use rustix::io::Errno;
use rustix::mm::{self, MapFlags, MsyncFlags, ProtFlags};
use rustix::pipe;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};

tests! { "calls":
    STOCK, 60: [
        the_guides_table_is_what_the_kernel_does,
    ];
    DEVICES, 60: [
        the_guides_table_holds_for_a_dma_buffer,
    ];
}

const TABLE: &str = include_str!("../../../../../docs/src/calls.md");
const NAME: &str = "calls";
const BYTES: usize = 16 * PAGE;

/// A descriptor, and where the buffer's first byte is in it.
struct Subject {
    file: File,
    start: u64,
}

/// What a call did: nothing to complain of, or an error.
type Did = Result<(), Said>;

enum Said {
    Errno(Errno),
    /// It succeeded, and did something else than was asked for.
    Otherwise(String),
}

impl From<Errno> for Said {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<std::io::Error> for Said {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::Errno(Errno::from_raw_os_error(number)),
            None => Self::Otherwise(error.to_string()),
        }
    }
}

fn is<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Did {
    if found == expected {
        return Ok(());
    }
    Err(Said::Otherwise(format!(
        "{found:?} instead of {expected:?}"
    )))
}

/// A call's name in the table, and what makes it.
type Call = (&'static str, fn(&Subject) -> Did);

const CALLS: &[Call] = &[
    ("pread(2), pwrite(2)", |s| {
        let mut bytes = [0; 16];
        is(rustix::io::pwrite(s, b"written by pwrit", s.start)?, 16)?;
        is(rustix::io::pread(s, &mut bytes, s.start)?, 16)?;
        is(&bytes, b"written by pwrit")
    }),
    ("lseek(2) to the end", |s| {
        is(fs::seek(s, fs::SeekFrom::End(0))?, BYTES as u64)
    }),
    ("fstat(2): st_size", |s| {
        is(fs::fstat(s)?.st_size, BYTES as i64)
    }),
    ("mmap(2)", |s| Mapped::new(s).map(drop)),
    ("msync(2) with MS_ASYNC", |s| {
        Mapped::new(s)?.sync(MsyncFlags::ASYNC)
    }),
    ("msync(2) with MS_SYNC", |s| {
        Mapped::new(s)?.sync(MsyncFlags::SYNC)
    }),
    ("fsync(2)", |s| Ok(fs::fsync(s)?)),
    ("fdatasync(2)", |s| Ok(fs::fdatasync(s)?)),
    ("sync_file_range(2)", |s| {
        // SAFETY: takes numbers only.
        let done = unsafe { libc::sync_file_range(raw(s), 0, PAGE as i64, 0) };
        answered(done)
    }),
    ("sendfile(2) from it", |s| {
        rustix::io::pwrite(s, b"by sendfile", s.start).or_else(ignore)?;
        let (from, to) = pipe::pipe()?;
        let mut at = s.start;
        is(fs::sendfile(&to, s, Some(&mut at), 11)?, 11)?;
        let mut bytes = [0; 11];
        is(rustix::io::read(&from, &mut bytes)?, 11)?;
        is(&bytes, b"by sendfile")
    }),
    ("sendfile(2) to it", |s| {
        let from = file_with(b"to it by sendfile")?;
        fs::seek(s, fs::SeekFrom::Start(s.start))?;
        is(fs::sendfile(s, &from, Some(&mut 0), 17)?, 17)?;
        begins_with(s, b"to it by sendfile")
    }),
    ("splice(2) from it", |s| {
        rustix::io::pwrite(s, b"spliced", s.start).or_else(ignore)?;
        let (from, to) = pipe::pipe()?;
        let mut at = s.start;
        let flags = pipe::SpliceFlags::empty();
        is(pipe::splice(s, Some(&mut at), &to, None, 7, flags)?, 7)?;
        let mut bytes = [0; 7];
        is(rustix::io::read(&from, &mut bytes)?, 7)?;
        is(&bytes, b"spliced")
    }),
    ("splice(2) to it", |s| {
        let (from, to) = pipe::pipe()?;
        rustix::io::write(&to, b"from a pipe")?;
        let mut at = s.start;
        let flags = pipe::SpliceFlags::empty();
        is(pipe::splice(&from, None, s, Some(&mut at), 11, flags)?, 11)?;
        begins_with(s, b"from a pipe")
    }),
    ("copy_file_range(2) from it", |s| {
        let to = file_with(b"")?;
        let mut at = s.start;
        is(fs::copy_file_range(s, Some(&mut at), &to, None, 8)?, 8)
    }),
    ("copy_file_range(2) to it", |s| {
        let from = file_with(b"copied")?;
        let mut at = s.start;
        is(
            fs::copy_file_range(&from, Some(&mut 0), s, Some(&mut at), 6)?,
            6,
        )
    }),
    ("poll(2) for reading and writing", |s| {
        let both = PollFlags::IN | PollFlags::OUT;
        let mut asked = [PollFd::new(s, both)];
        poll(&mut asked, Some(&Timespec::default()))?;
        is(asked[0].revents(), both)
    }),
    ("epoll_ctl(2)", |s| {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        Ok(epoll::add(&set, s, data, epoll::EventFlags::IN)?)
    }),
    ("ftruncate(2)", |s| Ok(fs::ftruncate(s, PAGE as u64)?)),
    ("fallocate(2)", |s| {
        Ok(fs::fallocate(s, FallocateFlags::empty(), 0, PAGE as u64)?)
    }),
    ("posix_fadvise(2)", |s| {
        Ok(fs::fadvise(s, 0, None, Advice::Sequential)?)
    }),
    ("fcntl(2): O_DIRECT", |s| {
        let flags = fs::fcntl_getfl(s)?;
        fs::fcntl_setfl(s, flags | fs::OFlags::DIRECT)?;
        let mut bytes = [0; 3];
        let read = rustix::io::pread(s, &mut bytes, s.start + 1);
        fs::fcntl_setfl(s, flags)?;
        is(read?, 3)
    }),
    ("flock(2)", |s| {
        fs::flock(s, FlockOperation::NonBlockingLockExclusive)?;
        Ok(fs::flock(s, FlockOperation::Unlock)?)
    }),
    ("fcntl(2): record locks", |s| {
        Ok(fs::fcntl_lock(s, FlockOperation::NonBlockingLockExclusive)?)
    }),
    ("ioctl DMA_BUF_IOCTL_SYNC", |s| {
        // DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW of uapi/linux/dma-buf.h, then the end.
        dma_buf_sync(s, 3)?;
        dma_buf_sync(s, 7)
    }),
    ("io_uring read", |s| {
        let mut ring = io_uring::IoUring::new(2)?;
        let mut bytes = [0_u8; 16];
        rustix::io::pwrite(s, b"read by io_uring", s.start).or_else(ignore)?;
        let fd = io_uring::types::Fd(raw(s));
        let read = io_uring::opcode::Read::new(fd, bytes.as_mut_ptr(), 16).offset(s.start);
        // SAFETY: the bytes outlive the request, which is waited for.
        let pushed = unsafe { ring.submission().push(&read.build()) };
        pushed.map_err(|error| Said::Otherwise(error.to_string()))?;
        ring.submit_and_wait(1)?;
        let done = ring.completion().next().map_or(0, |entry| entry.result());
        if done < 0 {
            return Err(Errno::from_raw_os_error(-done).into());
        }
        is(done, 16)?;
        is(&bytes, b"read by io_uring")
    }),
];

impl AsFd for Subject {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn raw(subject: &Subject) -> i32 {
    use std::os::fd::AsRawFd;
    subject.file.as_raw_fd()
}

fn answered(result: i32) -> Did {
    match result {
        0.. => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// The bytes cannot be put there in this way: what follows finds zeros, or fails by itself.
fn ignore(_: Errno) -> Result<usize, Errno> {
    Ok(0)
}

fn file_with(bytes: &[u8]) -> Result<File, Said> {
    let path = format!("/tmp/calls-{}", std::process::id());
    std::fs::write(&path, bytes)?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn begins_with(subject: &Subject, expected: &[u8]) -> Did {
    let mut bytes = vec![0; expected.len()];
    rustix::io::pread(subject, &mut bytes, subject.start)?;
    is(bytes.as_slice(), expected)
}

fn dma_buf_sync(subject: &Subject, flags: u64) -> Did {
    // _IOW('b', 0, struct dma_buf_sync)
    let number = 0x4008_6200;
    // SAFETY: the struct is one 64-bit word, which is only read.
    answered(unsafe { libc::ioctl(raw(subject), number, &raw const flags) })
}

/// A page of it, mapped.
struct Mapped(*mut std::ffi::c_void);

impl Mapped {
    fn new(s: &Subject) -> Result<Self, Said> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let at = std::ptr::null_mut();
        // SAFETY: the kernel picks the place.
        let map = unsafe { mm::mmap(at, PAGE, protection, MapFlags::SHARED, s, s.start) }?;
        Ok(Self(map))
    }

    fn sync(&self, flags: MsyncFlags) -> Did {
        // SAFETY: the page is mapped.
        Ok(unsafe { mm::msync(self.0, PAGE, flags) }?)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nobody uses the page any more.
        let _ = unsafe { mm::munmap(self.0, PAGE) };
    }
}

/// The rows of the table: what a call does on a named node, a session and a dma-buf.
fn rows() -> BTreeMap<&'static str, [&'static str; 3]> {
    let table = TABLE.lines().skip_while(|line| !line.starts_with("| call"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        (cells[0].trim_matches('`'), [cells[1], cells[2], cells[3]])
    })
    .collect()
}

fn the_guides_table_is_what_the_kernel_does() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, BYTES)?;
    table_holds(&session, &buffer)
}

fn the_guides_table_holds_for_a_dma_buffer() -> Outcome {
    let bound = Bound::edu()?;
    let session = bound.open()?;
    let buffer = dma_buffer(&session, Kind::Pages, BYTES as u64)?;
    table_holds(&session, &buffer)
}

fn table_holds(session: &Session, buffer: &Alloc) -> Outcome {
    session.name(buffer.id, NAME, 0o600)?;
    let node = OpenOptions::new()
        .read(true)
        .write(true)
        .open(named_path(NAME))?;
    let subjects = [
        Subject {
            file: node,
            start: 0,
        },
        Subject {
            file: session.file().try_clone()?,
            start: buffer.mmap_offset,
        },
        Subject {
            file: session.export(buffer.id)?,
            start: 0,
        },
    ];
    let mut rows = rows();
    let mut wrong = Vec::new();
    for (name, call) in CALLS {
        let found = subjects.each_ref().map(|subject| match call(subject) {
            Ok(()) => "works".to_owned(),
            Err(Said::Errno(errno)) => sys::Errno(errno.raw_os_error()).to_string(),
            Err(Said::Otherwise(how)) => how,
        });
        let said = rows.remove(name).unwrap_or(["no such row"; 3]);
        // What stands after the word is for people.
        let agree = said.iter().zip(&found).all(|(said, found)| {
            let said = said.split([':', ';']).next().unwrap_or_default();
            said.trim_matches(['`', ' ']) == found.trim()
        });
        if !agree {
            wrong.push(format!("| `{name}` | {} |", found.join(" | ")));
        }
    }
    session.unname(NAME)?;
    wrong.extend(rows.keys().map(|name| format!("nothing tries `{name}`")));
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "docs/src/calls.md: {}",
            wrong.join(" ")
        ))),
    }
}
