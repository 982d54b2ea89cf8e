//! Operations, and programs of them as text.
//!
//! A program is a list of steps. Each says which worker does it; a worker is a stack of processes, of which the topmost
//! works (see [`Op::Fork`]). What an operation works on is named by the number of a place that the worker has for it:
//!
//! * a file: one of [`FILES`] places for descriptors;
//! * a variable: one of [`VARS`] places for a buffer's id and an `mmap` offset;
//! * a page: one of [`PAGES`] pages of a range of addresses that is used for nothing else.
//!
//! A place may be empty, or hold something that is long gone: every operation has an answer in every state. So any step
//! can be left out of a program, and it is still one.

use std::fmt;

/// Processes that work side by side. The last one is an ordinary user, the others are root.
pub const WORKERS: usize = 3;
/// Places for descriptors.
pub const FILES: usize = 8;
/// Places for ids and offsets.
pub const VARS: usize = 12;
/// Pages of address space for mappings.
pub const PAGES: u32 = 8192;
/// Bytes in a page.
pub const PAGE: usize = 4096;
/// Eventfds that all processes share.
pub const EVENTS: usize = 2;
/// The ordinary user's uid and gid.
pub const USER: u32 = 1000;

/// Something that a field of an operation can hold.
pub trait Value: Copy + fmt::Debug + PartialEq {
    /// As text, without blanks.
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// From text.
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! integers {
    ($($name:ident)*) => { $(
        impl Value for $name {
            fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )* };
}

integers!(u8 u32 u64 i32 i64 bool);

/// A buffer's id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Id {
    /// The one in this variable: `v3`.
    Var(u8),
    /// This number: `77`.
    Number(u32),
}

impl Value for Id {
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Var(var) => write!(f, "v{var}"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('v') {
            Some(var) => var.parse().ok().map(Self::Var),
            None => text.parse().ok().map(Self::Number),
        }
    }
}

/// A place in a file, in the two encodings of `mmap` offsets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// The id in this variable, times the size of a page: `id3`.
    Id(u8),
    /// The `mmap` offset in this variable, and so many pages more: `v3+2`.
    Var(u8, u32),
    /// So many bytes: `4096`.
    Bytes(u64),
}

impl Value for Place {
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(var) => write!(f, "id{var}"),
            Self::Var(var, pages) => write!(f, "v{var}+{pages}"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(var) = text.strip_prefix("id") {
            return var.parse().ok().map(Self::Id);
        }
        match text.strip_prefix('v') {
            Some(rest) => {
                let (var, pages) = rest.split_once('+')?;
                Some(Self::Var(var.parse().ok()?, pages.parse().ok()?))
            }
            None => text.parse().ok().map(Self::Bytes),
        }
    }
}

macro_rules! damages {
    ($( $(#[$meta:meta])* $variant:ident = $text:literal; )*) => {
        /// What is wrong with the struct that an ioctl is given.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Damage {
            $( $(#[$meta])* $variant, )*
        }

        impl Damage {
            /// Every value.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];
        }

        impl Value for Damage {
            fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $( Self::$variant => $text, )* })
            }
            fn parse(text: &str) -> Option<Self> {
                match text { $( $text => Some(Self::$variant), )* _ => None }
            }
        }
    };
}

damages! {
    /// Nothing.
    No = "no";
    /// It is longer than the driver knows, and the rest is zero: nothing wrong.
    Longer = "longer";
    /// It ends where its page ends, and nothing follows: nothing wrong.
    Edge = "edge";
    /// There is nothing at its address.
    Nowhere = "nowhere";
    /// Its last bytes are not there.
    Torn = "torn";
    /// It can be read and not written.
    ReadOnly = "read-only";
    /// Its size is too small.
    Short = "short";
    /// Its size is larger than any may be.
    TooLong = "too-long";
    /// It is longer than the driver knows, and the rest is not zero.
    Newer = "newer";
    /// It has a flag that there is not.
    Flags = "flags";
    /// A reserved field is not zero, if it has one.
    Reserved = "reserved";
}

macro_rules! operations {
    ($( $(#[$meta:meta])* $variant:ident = $text:literal { $( $field:ident: $type:ty ),* } )*) => {
        /// An operation. Fields are named as in the text.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[expect(missing_docs, reason = "the line of the operation says what its fields are")]
        pub enum Op {
            $( $(#[$meta])* $variant { $( $field: $type ),* }, )*
        }

        impl Op {
            /// The names of all operations.
            pub const NAMES: &'static [&'static str] = &[$( $text, )*];

            /// Its number among [`Self::NAMES`].
            pub fn number(&self) -> usize {
                let name = self.name();
                Self::NAMES.iter().position(|other| *other == name).unwrap_or(0)
            }

            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $( Self::$variant { .. } => $text, )* }
            }

            fn parse(name: &str, fields: &[(&str, &str)]) -> Result<Self, String> {
                match name {
                    $( $text => {
                        let known: &[&str] = &[$( stringify!($field), )*];
                        if let Some((field, _)) = fields.iter().find(|(field, _)| !known.contains(field)) {
                            return Err(format!("{name} has no {field}"));
                        }
                        Ok(Self::$variant { $( $field: field(name, fields, stringify!($field))?, )* })
                    } )*
                    _ => Err(format!("there is no operation {name}")),
                }
            }
        }

        impl fmt::Display for Op {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())?;
                match self {
                    $( Self::$variant { $( $field ),* } => {
                        $( write!(f, " {}=", stringify!($field))?; $field.print(f)?; )*
                    } )*
                }
                Ok(())
            }
        }
    };
}

fn field<T: Value>(name: &str, fields: &[(&str, &str)], wanted: &str) -> Result<T, String> {
    let (_, text) = fields
        .iter()
        .find(|(field, _)| *field == wanted)
        .ok_or_else(|| format!("{name} needs {wanted}"))?;
    T::parse(text).ok_or_else(|| format!("{name}: {wanted} cannot be {text}"))
}

operations! {
    /// Opens the allocator node; `access` as in `O_ACCMODE`.
    Open = "open" { to: u8, access: u8 }
    /// Opens the device's node.
    OpenDevice = "open-device" { to: u8, access: u8 }
    /// Opens the node of a named buffer.
    OpenNamed = "open-named" { to: u8, name: u8, access: u8 }
    /// Closes a descriptor.
    Close = "close" { file: u8 }
    /// Sends a descriptor to a worker, where it waits.
    Send = "send" { file: u8, worker: u8 }
    /// Takes the descriptor that has waited longest.
    Receive = "receive" { to: u8 }
    /// `QUERY`
    Query = "query" { file: u8, damage: Damage }
    /// `ALLOC`; the id and the offset go to a variable.
    Alloc = "alloc" { file: u8, to: u8, kind: u32, cache: u32, bytes: u64, node: i32, id: Id, damage: Damage }
    /// `ALLOC` with a placement, and with addresses for the device.
    AllocDma = "alloc-dma" { file: u8, to: u8, kind: u32, bytes: u64, device: bool, below: u64, align: u32, boundary: u32, damage: Damage }
    /// `ATTACH`; `direction` as in `Direction`.
    Attach = "attach" { file: u8, id: Id, direction: u32, damage: Damage }
    /// `DETACH`
    Detach = "detach" { file: u8, id: Id, damage: Damage }
    /// `SYNC`; `phase`: bits of `sync`.
    Sync = "sync" { file: u8, id: Id, phase: u32, direction: u32, offset: u64, length: u64, damage: Damage }
    /// `IRQ`; `event`: one of [`EVENTS`] eventfds, behind them none, behind that descriptor 0.
    Irq = "irq" { file: u8, kind: u32, index: u32, action: u32, event: u8, vectors: u32, damage: Damage }
    /// Reads an eventfd.
    Count = "count" { event: u8 }
    /// `BAR`
    Bar = "bar" { file: u8, to: u8, index: u32, cache: u32, width: u32, id: Id, damage: Damage }
    /// Takes the device from the driver.
    Unbind = "unbind" {}
    /// Gives it back.
    Bind = "bind" {}
    /// `DMA_MASK`
    DmaMask = "dma-mask" { file: u8, bits: u32, damage: Damage }
    /// `FREE`
    Free = "free" { file: u8, id: Id, damage: Damage }
    /// `INFO`
    Info = "info" { file: u8, id: Id, damage: Damage }
    /// `SEGMENTS`; `device`: of the device's addresses.
    Segments = "segments" { file: u8, id: Id, first: u32, count: u32, device: bool, damage: Damage }
    /// `OFFSET`; the offset goes to a variable.
    Offset = "offset" { file: u8, to: u8, id: Id, method: u32, damage: Damage }
    /// `EXPORT`; `starved`: without a free descriptor.
    Export = "export" { file: u8, to: u8, id: Id, starved: bool, damage: Damage }
    /// `IMPORT` of the descriptor in place `buffer`, 250 is one of another driver; `device`: with addresses for the device.
    Import = "import" { file: u8, to: u8, buffer: u8, id: Id, device: bool, damage: Damage }
    /// `NAME`
    Name = "name" { file: u8, id: Id, name: u8, mode: u32, uid: u32, gid: u32, damage: Damage }
    /// `UNNAME`
    Unname = "unname" { file: u8, name: u8, damage: Damage }
    /// `PROBE`
    Probe = "probe" { file: u8, id: Id, flags: u32, damage: Damage }
    /// `REGION`
    Region = "region" { file: u8, index: u32, damage: Damage }
    /// `LAST_ERROR`
    LastError = "last-error" { file: u8, damage: Damage }
    /// An ioctl that there is not.
    Unknown = "unknown" { file: u8, number: u32 }
    /// `DMA_BUF_IOCTL_SYNC`
    DmaBufSync = "dma-buf-sync" { file: u8, flags: u64 }
    /// `pread` of so many bytes, `skip` bytes behind the place; `nowhere`: to an address that is none.
    ReadAt = "read-at" { file: u8, place: Place, skip: u32, length: u32, nowhere: bool }
    /// `pwrite`
    WriteAt = "write-at" { file: u8, place: Place, skip: u32, length: u32, nowhere: bool, seed: u32 }
    /// `lseek`
    Seek = "seek" { file: u8, offset: i64, whence: i32 }
    /// `mmap` at a page; `sharing` as in `MAP_TYPE`. Never over something that is there.
    Map = "map" { file: u8, at: u32, pages: u32, place: Place, prot: u8, sharing: u8, populate: bool }
    /// `munmap`
    Unmap = "unmap" { at: u32, pages: u32 }
    /// `mprotect`
    Protect = "protect" { at: u32, pages: u32, prot: u8 }
    /// `mremap` to another page.
    Move = "move" { at: u32, pages: u32, to: u32 }
    /// `mremap` to another length, where it is.
    Resize = "resize" { at: u32, pages: u32, new: u32 }
    /// `madvise(MADV_DONTNEED)`
    Forget = "forget" { at: u32, pages: u32 }
    /// Reads mapped memory, `skip` bytes behind a page's start.
    Load = "load" { at: u32, skip: u32, length: u32 }
    /// Writes mapped memory.
    Store = "store" { at: u32, skip: u32, length: u32, seed: u32 }
    /// Forks: the child works from here on, the parent waits for it.
    Fork = "fork" {}
    /// The working process exits; its parent goes on, or a new one that has nothing.
    Exit = "exit" {}
    /// The working process is killed.
    Kill = "kill" {}
}

/// One step of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Who does it.
    pub worker: u8,
    /// What.
    pub op: Op,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.worker, self.op)
    }
}

impl std::str::FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let worker = words.next().and_then(|word| word.parse().ok());
        let worker = worker.filter(|worker: &u8| usize::from(*worker) < WORKERS);
        let worker = worker.ok_or_else(|| format!("{line}: no worker"))?;
        let name = words
            .next()
            .ok_or_else(|| format!("{line}: no operation"))?;
        let mut fields = Vec::new();
        for word in words {
            let pair = word.split_once('=');
            fields.push(pair.ok_or_else(|| format!("{line}: {word} is no field"))?);
        }
        let op = Op::parse(name, &fields).map_err(|why| format!("{line}: {why}"))?;
        Ok(Self { worker, op })
    }
}

/// Reads a program: one step a line, comments after `#`.
///
/// # Errors
///
/// What is wrong with the first line that is none.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(str::parse)
        .collect()
}

/// Prints a program as [`parse`] reads it.
pub fn print(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

/// The name of this number, as it is in the structs. Those from 6 on are wrong, but for number 8 and those of regions
/// ([`REGIONS`](crate::model::declared::REGIONS)).
pub fn name(number: u8) -> [u8; mapbuf_abi::NAME_LEN] {
    let mut name = [0; mapbuf_abi::NAME_LEN];
    let text: &[u8] = match number {
        0 => b"fuzz-0",
        1 => b"fuzz_1",
        2 => b"2.fuzz",
        3 => b"_",
        4 => b"fuzz-4",
        5 => b"F",
        6 => b"",
        7 => b".fuzz",
        8 => &[b'x'; mapbuf_abi::NAME_LEN],
        9 => b"fuzz/9",
        10 => b"fuzz\0z",
        12 => b"region",
        13 => b"region-uc",
        _ => b"fuzz\xff",
    };
    for (to, from) in name.iter_mut().zip(text) {
        *to = *from;
    }
    name
}

/// How many numbers [`name`] has names for that programs give and take away; those of regions follow.
pub const NAMES: u8 = 12;

/// The file name of the node of this name.
pub fn node(number: u8) -> String {
    let name = name(number);
    let length = name.iter().position(|byte| *byte == 0);
    let name = name.get(..length.unwrap_or(name.len())).unwrap_or_default();
    format!(
        "{}/{}",
        mapbuf_abi::NAMED_DIR,
        String::from_utf8_lossy(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_as_it_was_printed() {
        for seed in 0..20 {
            let steps = crate::generate::program(seed, 300);
            let text = print(&steps);
            assert_eq!(parse(&text).unwrap(), steps);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(parse("0 unmap at=1 pages=2 # comment\n\n# nothing\n").is_ok());
        for wrong in [
            "9 unmap at=1 pages=2",
            "0 nonsense",
            "0 unmap at=1",
            "0 unmap at=1 pages=2 more=3",
            "0 unmap at=x pages=2",
            "0 unmap 1 2",
            "unmap",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
