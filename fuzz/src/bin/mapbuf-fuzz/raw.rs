//! The raw fuzzer: bytes that nobody has thought about, for every ioctl of ours and beside.
//!
//! What comes out is not foretold. What must hold is: an error has a reason that goes with it; bytes of the caller's
//! that are not the struct's stay as they were, and when the call fails, all but the field that says why; a struct is
//! read once.

use crate::device::Device;
use crate::memory::Desk;
use crate::pages::{Coverage, LatePage, Racer};
use crate::sys;
use fastrand::Rng;
use mapbuf_abi::{
    ioctl, refused_at, LastError, Operation, Reason, Refused, Unname, MAGIC, MAX_IDS,
    MAX_STRUCT_SIZE, NAMED_DIR, SYSTEM_NODE,
};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The bytes that a refused call may write: the last field of its struct, where the caller's struct reaches as far.
fn told(call: &Call, claimed: usize) -> Range<usize> {
    // A dma-buf has the core's own ioctls.
    if call.file == DMA_BUF || call.number >> 8 & 0xff != MAGIC {
        return 0..0;
    }
    let operation = Operation::from_number(call.number & 0xff);
    let Some(start) = operation.and_then(refused_at) else {
        return 0..0;
    };
    let end = start + size_of::<Refused>();
    let reaches = claimed >= end && claimed <= MAX_STRUCT_SIZE as usize;
    if reaches {
        start..end
    } else {
        0..0
    }
}

/// The first sizes of the structs, by the number of the ioctl; 6 is none.
const SIZES: [u32; 14] = [80, 64, 16, 136, 32, 32, 64, 16, 64, 88, 72, 32, 40, 152];
/// Those that are of use on the node of a device.
const OF_DEVICES: [u32; 9] = [
    ioctl::SYNC,
    ioctl::DEVICE,
    ioctl::DMA_MASK,
    ioctl::ATTACH,
    ioctl::DETACH,
    ioctl::IRQ,
    ioctl::CONFIG,
    ioctl::BAR,
    ioctl::ALLOC,
];
/// The places of a dma-buf and of a device among the files.
const DMA_BUF: usize = 3;
const DEVICE: usize = 4;
/// Calls before everything is closed and begun anew.
const ROUND: u32 = 400;
/// Bytes that are looked at around a struct.
const FRAME: usize = 512;
/// What every byte is before.
const STAIN: u8 = 0xa5;

/// Where the struct lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lies {
    /// Where there is room.
    Well,
    /// So that so many bytes of what it says to be its length are not there.
    Torn(usize),
    /// Where nothing can be written.
    ReadOnly,
    /// Where nothing is.
    Nowhere,
    /// Where the kernel is.
    Kernel,
    /// Where another thread writes to it.
    Raced,
}

#[derive(Clone, Debug)]
struct Call {
    file: usize,
    number: u32,
    bytes: Vec<u8>,
    lies: Lies,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, lies, .. } = self;
        write!(
            f,
            "ioctl {number:#x} on file {}, {lies:?}, words",
            self.file
        )?;
        let last = self.bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        for at in 0..=last / 4 {
            write!(f, " {:x}", word(&self.bytes, at))?;
        }
        Ok(())
    }
}

/// What was counted.
#[derive(Default)]
struct Counts {
    calls: u64,
    well: u64,
    raced: u64,
    fetches: u64,
}

/// The raw fuzzer.
pub struct Raw {
    rng: Rng,
    files: Vec<i32>,
    device: Option<Device>,
    eventfd: i32,
    desk: Desk,
    racer: Racer,
    late: Option<LatePage>,
    coverage: Option<Coverage>,
    covered: HashSet<u64>,
    corpus: Vec<Call>,
    counts: Counts,
}

impl Raw {
    /// Makes one.
    pub fn new(seed: u64) -> Result<Self, String> {
        let _ = fs::create_dir_all("/sys/kernel/debug");
        Ok(Self {
            rng: Rng::with_seed(seed),
            files: Vec::new(),
            device: Device::edu().inspect(Device::claim),
            eventfd: -1,
            desk: Desk::new().map_err(|errno| format!("errno {errno}"))?,
            racer: Racer::start(),
            late: LatePage::new(),
            coverage: Coverage::new(),
            covered: HashSet::new(),
            corpus: Vec::new(),
            counts: Counts::default(),
        })
    }

    /// Calls until the time is up, or for so many rounds.
    pub fn run(&mut self, time: Duration, rounds: u32) -> Result<(), String> {
        let begun = Instant::now();
        let mut said = begun;
        for _ in 0..rounds {
            if begun.elapsed() >= time {
                break;
            }
            let result = self.round();
            self.close();
            if let Some(device) = &self.device {
                let _ = device.unbind();
            }
            result?;
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                self.say(begun);
            }
        }
        self.say(begun);
        Ok(())
    }

    fn round(&mut self) -> Result<(), String> {
        self.open()?;
        for _ in 0..ROUND {
            if self.rng.u32(..20) == 0 && self.late.is_some() {
                self.double_fetch()?;
            } else {
                let call = self.make();
                self.call(call)?;
            }
            if let (0, Some(device)) = (self.rng.u32(..ROUND), &self.device) {
                let _ = device.unbind();
                // The files that are open stay those of what is gone.
                let _ = device.bind();
            }
        }
        Ok(())
    }

    fn say(&self, begun: Instant) {
        let Counts {
            calls,
            well,
            raced,
            fetches,
        } = self.counts;
        let took = begun.elapsed().as_secs_f64();
        let covered = match self.coverage {
            Some(_) => format!(
                "{} places of the driver reached by {} of them",
                self.covered.len(),
                self.corpus.len()
            ),
            None => "no KCOV here".into(),
        };
        let late = match self.late {
            Some(_) => format!("{fetches} rewritten between two reads"),
            None => "no userfaultfd here".into(),
        };
        println!(
            "{took:.0} s: {calls} calls, {well} well, {raced} raced, {late}; {covered}; {:.0} in a second",
            calls as f64 / took
        );
    }

    /// A session, one that cannot be written, the node of a named buffer, a dma-buf, and the node of a device if there is one.
    fn open(&mut self) -> Result<(), String> {
        let failed = |what: &'static str| move |errno| format!("{what}: errno {errno}");
        let session = sys::open(SYSTEM_NODE, 2).map_err(failed("open"))?;
        let reader = sys::open(SYSTEM_NODE, 0).map_err(failed("open"))?;
        self.files = vec![session, reader];
        let mut alloc = vec![0; 64];
        put(&mut alloc, 0, &[64, 0, 5 * 4096, 0, 2, 0, u32::MAX, 9]);
        self.plain(session, ioctl::ALLOC, &mut alloc)
            .map_err(failed("ALLOC"))?;
        let mut name = vec![0; 88];
        put(&mut name, 0, &[88, 0, 9, 0o666, u32::MAX, u32::MAX]);
        if let Some(to) = name.get_mut(24..27) {
            to.copy_from_slice(b"raw");
        }
        self.plain(session, ioctl::NAME, &mut name)
            .map_err(failed("NAME"))?;
        let node = format!("{NAMED_DIR}/raw");
        self.files
            .push(sys::open(&node, 2).map_err(failed("open"))?);
        let mut export = vec![0; 16];
        put(&mut export, 0, &[16, 0, 9]);
        self.plain(session, ioctl::EXPORT, &mut export)
            .map_err(failed("EXPORT"))?;
        self.files.push(word(&export, 3) as i32);
        if let Some(device) = &self.device {
            let _ = device.bind();
            let node = sys::open(&device.node(), 2);
            self.files.push(node.map_err(failed("open a device"))?);
            // SAFETY: The call takes no pointers.
            self.eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        }
        Ok(())
    }

    /// Closes everything, also what calls have opened, and takes all names away but those of regions.
    fn close(&mut self) {
        if let (Some(session), Ok(folder)) = (self.files.first(), fs::read_dir(NAMED_DIR)) {
            let names = folder.flatten().map(|entry| entry.file_name());
            let region = |name: &OsString| name.as_encoded_bytes().starts_with(b"region");
            for name in names.filter(|name| !region(name)) {
                let mut unname = vec![0; size_of::<Unname>()];
                put(&mut unname, 0, &[size_of::<Unname>() as u32]);
                for (to, from) in unname.iter_mut().skip(8).zip(name.as_encoded_bytes()) {
                    *to = *from;
                }
                let _ = self.plain(*session, ioctl::UNNAME, &mut unname);
            }
        }
        let first = self.files.iter().min().copied();
        if let Some(first) = first {
            sys::close_from(first);
        }
        self.files.clear();
    }

    fn plain(&self, fd: i32, number: u32, bytes: &mut [u8]) -> Result<(), i32> {
        self.desk.write(0, bytes);
        match self.desk.ioctl(fd, number, 0) {
            0 => {
                self.desk.read(0, bytes);
                Ok(())
            }
            errno => Err(errno),
        }
    }

    /// A number from near the edges of things.
    fn edge(&mut self) -> u64 {
        let edges = [
            0,
            1,
            4096,
            MAX_IDS.into(),
            1 << 31,
            1 << 32,
            1 << 44,
            1 << 63,
        ];
        let edge = edges.get(self.rng.usize(..edges.len())).copied();
        let edge: u64 = edge.unwrap_or(0);
        match self.rng.u32(..4) {
            0 => edge.wrapping_add(self.rng.u64(..5)),
            1 => edge.wrapping_sub(self.rng.u64(..5)),
            2 => edge,
            _ => self.rng.u64(..) >> self.rng.u32(..64),
        }
    }

    fn make(&mut self) -> Call {
        if !self.corpus.is_empty() && self.rng.bool() {
            let index = self.rng.usize(..self.corpus.len());
            if let Some(call) = self.corpus.get(index).cloned() {
                return self.change(call);
            }
        }
        let file = self.rng.usize(..self.files.len().max(4));
        let more = self.rng.usize(..2 * OF_DEVICES.len());
        let nr = match OF_DEVICES.get(more) {
            Some(number) if file == DEVICE => number & 0xff,
            _ => self.rng.u32(..24),
        };
        let number = match self.rng.u32(..12) {
            // Beside: another type, or a number that nobody has.
            0 => (self.rng.u32(..) & !0xff00) | (MAGIC + self.rng.u32(..3) - 1) << 8,
            1 => (self.rng.u32(..) & !0xff00) | MAGIC << 8,
            2 => self.rng.u32(..) & !0xffff | MAGIC << 8 | nr,
            _ => 3 << 30 | 64 << 16 | MAGIC << 8 | nr,
        };
        let nr = (number & 0xff) as usize;
        let of_devices = OF_DEVICES
            .iter()
            .find(|number| **number & 0xff == nr as u32);
        let of_devices = of_devices.map(|number| number >> 16 & 0x3fff);
        let size = of_devices.or(SIZES.get(nr).copied()).unwrap_or(64);
        let mut bytes = vec![0; FRAME - 64];
        for at in (0..bytes.len() / 4).filter(|at| *at < 64) {
            let value = match self.rng.u32(..6) {
                0..=2 => 0,
                3 => self.rng.u32(..12),
                4 => self.edge() as u32,
                _ => self.rng.u32(..),
            };
            put(&mut bytes, at, &[value]);
        }
        if self.rng.u32(..8) > 0 {
            // It gets past the first look.
            let given = match self.rng.u32(..6) {
                0 => self.rng.u32(..FRAME as u32 - 64),
                _ => size,
            };
            put(&mut bytes, 0, &[given, 0]);
        }
        if self.rng.u32(..3) > 0 {
            self.sensible(nr, &mut bytes);
        }
        self.finish(Call {
            file,
            number,
            bytes,
            lies: Lies::Well,
        })
    }

    /// Makes the fields such that something may come of them.
    fn sensible(&mut self, nr: usize, bytes: &mut [u8]) {
        let id = self.rng.u32(..14);
        match nr {
            1 => {
                let (kind, cache) = (self.rng.u32(1..5), u32::from(self.rng.u32(..8) == 0));
                let length = self.rng.u32(1..1 << 17);
                put(bytes, 2, &[length, 0, kind, cache, u32::MAX, id, 0, 0]);
                put(bytes, 10, &[0; 6]);
            }
            2 => put(bytes, 2, &[id, 0]),
            3 => {
                put(bytes, 2, &[id]);
                put(bytes, 30, &[0; 4]);
            }
            4 => put(bytes, 2, &[id, 0, 20]),
            5 => put(bytes, 2, &[id, self.rng.u32(..12), 0, 0, 0, 0]),
            7 => put(bytes, 2, &[id]),
            8 => put(bytes, 7, &[0]),
            9 => {
                let mode = self.rng.u32(..0o777) & 0o666;
                put(bytes, 2, &[id, mode, u32::MAX, u32::MAX]);
                self.name(bytes, 24);
            }
            10 => self.name(bytes, 8),
            11 => {
                let file = self.files.get(self.rng.usize(..4)).copied();
                put(bytes, 2, &[file.unwrap_or(-1) as u32, id]);
            }
            6 => {
                let (phase, direction) = (self.rng.u32(1..3), self.rng.u32(1..4));
                let (at, length) = (self.rng.u32(..8192), self.rng.u32(1..8192));
                put(bytes, 1, &[phase, id, direction, at, 0, length, 0]);
            }
            15 => put(bytes, 2, &[self.rng.u32(12..65), 0]),
            16 => put(bytes, 2, &[id, self.rng.u32(1..4), 0, 0, 0, 0]),
            17 => put(bytes, 2, &[id, 0]),
            18 => {
                let (kind, action) = (self.rng.u32(1..4), self.rng.u32(1..5));
                let fd = match self.rng.u32(..4) {
                    0 => u32::MAX,
                    1 => 0,
                    _ => self.eventfd as u32,
                };
                put(bytes, 2, &[kind, 0, action, fd, 0, 0]);
            }
            19 => {
                let (write, width) = (self.rng.u32(..2), 1 << self.rng.u32(..3));
                let at = self.rng.u32(..256) / width * width;
                put(bytes, 1, &[write, at, width, self.rng.u32(..), 0]);
            }
            20 => {
                put(bytes, 2, &[self.rng.u32(..6), self.rng.u32(..4)]);
                put(bytes, 10, &[8 << self.rng.u32(..4), 0]);
            }
            _ => {}
        }
    }

    fn name(&mut self, bytes: &mut [u8], at: usize) {
        let number = self.rng.u8(b'0'..b'4');
        if let Some(field) = bytes.get_mut(at..at + 64) {
            field.fill(0);
            for (to, from) in field.iter_mut().zip([b'r', b'-', number]) {
                *to = from;
            }
        }
    }

    /// Changes a call that has reached something new once.
    fn change(&mut self, mut call: Call) -> Call {
        for _ in 0..self.rng.u32(1..4) {
            let at = self.rng.usize(..40);
            let value = match self.rng.u32(..3) {
                0 => self.rng.u32(..16),
                1 => self.edge() as u32,
                _ => word(&call.bytes, at) ^ 1 << self.rng.u32(..32),
            };
            put(&mut call.bytes, at, &[value]);
        }
        if self.rng.u32(..6) == 0 {
            call.file = self.rng.usize(..4);
        }
        self.finish(call)
    }

    fn finish(&mut self, mut call: Call) -> Call {
        call.lies = match self.rng.u32(..20) {
            0 => Lies::Torn(self.rng.usize(1..FRAME - 64)),
            1 => Lies::Torn(self.rng.usize(1..16)),
            2 => Lies::ReadOnly,
            3 => Lies::Nowhere,
            4 => Lies::Kernel,
            5..=7 => Lies::Raced,
            _ => Lies::Well,
        };
        // Rows are written to an address: one of the desk's, or one at which nothing is.
        if call.number & 0xff == 4 {
            let rows = match self.rng.u32(..4) {
                0 => 16,
                1 => 0xffff_8880_0000_0000,
                _ => self.desk.address(4096) as u64,
            };
            put(&mut call.bytes, 6, &[rows as u32, (rows >> 32) as u32]);
            // As many as there is room for.
            let count = word(&call.bytes, 4) % 128;
            put(&mut call.bytes, 4, &[count]);
        }
        call
    }

    fn call(&mut self, call: Call) -> Result<(), String> {
        let Some(&fd) = self.files.get(call.file) else {
            return Ok(());
        };
        self.counts.calls += 1;
        let mut before = vec![STAIN; FRAME];
        for (to, from) in before.iter_mut().zip(&call.bytes) {
            *to = *from;
        }
        let claimed = word(&call.bytes, 0) as usize;
        let at = match call.lies {
            Lies::Torn(missing) => {
                Desk::ROOM - claimed.clamp(missing, FRAME).saturating_sub(missing)
            }
            _ => 0,
        };
        self.desk.write(at, &before);
        let desk = &self.desk;
        let ioctl = || match call.lies {
            Lies::ReadOnly => desk.ioctl_read_only(fd, call.number, at),
            Lies::Nowhere => desk.ioctl_nowhere(fd, call.number),
            Lies::Kernel => desk.ioctl_kernel(fd, call.number),
            Lies::Raced => self
                .racer
                .during(desk.address(at), 24, || desk.ioctl(fd, call.number, at)),
            _ => desk.ioctl(fd, call.number, at),
        };
        let (errno, places) = match &self.coverage {
            Some(coverage) => coverage.of(ioctl),
            None => (ioctl(), Vec::new()),
        };
        self.counts.well += u64::from(errno == 0);
        self.counts.raced += u64::from(call.lies == Lies::Raced);
        let mut after = vec![0; FRAME];
        self.desk.read(at, &mut after);
        self.check(&call, fd, errno)?;
        if call.lies == Lies::Well {
            let written = match errno {
                0 => 0..claimed.min(FRAME),
                _ => told(&call, claimed),
            };
            let differ = |at: usize| !written.contains(&at) && after.get(at) != before.get(at);
            if (0..FRAME).any(differ) {
                return Err(format!("{call}: bytes changed that are not the struct's"));
            }
        }
        let known = self.covered.len();
        self.covered.extend(places);
        if self.covered.len() > known && call.lies != Lies::Raced {
            self.corpus.push(call);
        }
        Ok(())
    }

    /// That an error is one that the driver explains.
    fn check(&self, call: &Call, fd: i32, errno: i32) -> Result<(), String> {
        // A dma-buf has the core's own ioctls, and other types may be the core's too.
        if errno == 0 || call.file == DMA_BUF || call.number >> 8 & 0xff != MAGIC {
            return Ok(());
        }
        let mut bytes = vec![0; size_of::<LastError>()];
        put(&mut bytes, 0, &[64]);
        self.plain(fd, ioctl::LAST_ERROR, &mut bytes)
            .map_err(|errno| format!("LAST_ERROR: errno {errno}"))?;
        let reason = Reason::from_number(word(&bytes, 4));
        match reason {
            Some(reason) if reason.errno() == errno && reason != Reason::KernelRefused => Ok(()),
            reason => Err(format!(
                "{call}: errno {errno}, and the reason is {reason:?}"
            )),
        }
    }

    /// A struct whose size changes after it was read: what counts is what was read.
    fn double_fetch(&mut self) -> Result<(), String> {
        // Those that change nothing, and that are answered whatever the rest of the struct is.
        let numbers = [ioctl::QUERY, ioctl::INFO, ioctl::LAST_ERROR, ioctl::REGION];
        let number = numbers
            .get(self.rng.usize(..4))
            .copied()
            .unwrap_or(ioctl::QUERY);
        let size = (number >> 16 & 0x3fff) as usize;
        let mut bytes = vec![0; FRAME];
        put(&mut bytes, 0, &[size as u32]);
        if let Some(rest) = bytes.get_mut(size..) {
            rest.fill(STAIN);
        }
        let sizes = [0, 8, size as u32 - 8, size as u32 + 64, 4096, u32::MAX];
        let new = sizes.get(self.rng.usize(..6)).copied().unwrap_or(0);
        let (Some(late), Some(&fd)) = (&self.late, self.files.first()) else {
            return Ok(());
        };
        let (errno, after, came) =
            late.with(&bytes, new, |address| sys::ioctl(fd, number, address));
        self.counts.fetches += u64::from(came);
        let first = word(&after, 0) as usize;
        let rest = after.get(size..) == bytes.get(size..);
        if errno != 0 || first != size || !rest {
            return Err(format!(
                "ioctl {number:#x}: its size {size} became {new} after it was read: errno {errno}, size {first} came \
                 back, and what lies behind it {}",
                if rest { "is the same" } else { "has changed" }
            ));
        }
        Ok(())
    }
}

/// Sets 32-bit words from word `at` on.
fn put(bytes: &mut [u8], at: usize, words: &[u32]) {
    for (chunk, word) in bytes.chunks_exact_mut(4).skip(at).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut own = [0; 4];
    if let Some(bytes) = bytes.get(4 * at..4 * at + 4) {
        own.copy_from_slice(bytes);
    }
    u32::from_ne_bytes(own)
}
