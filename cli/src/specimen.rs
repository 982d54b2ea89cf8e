//! A mapping made to be looked at: by one method, of the kind of memory that suits it, touched, and its page tables read.

use crate::{demo::frames, failure::Failure, tables::Tables};
use frames::Page;
use mapbuf::{
    abi::ADDRESS_HIDDEN, AllocOptions, Buffer, Cache, Device, Kind, MapOptions, Mapping, Method,
    Segment,
};
use nix::sys::resource::{getrusage, UsageWho};
use std::{io::ErrorKind, sync::OnceLock};

const HUGE: u64 = 2 << 20;

/// What lies at a page of the mapping, or at the first of several that one entry covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// The page, counted from the mapping's beginning.
    pub page: u64,
    /// The first physical address, or no entry.
    pub physical: Option<u64>,
    /// Bytes that the entry covers.
    pub bytes: u64,
    /// Whether the entry lets the processor cache, where that is known.
    pub cached: Option<bool>,
}

/// How the entries were seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The tables themselves.
    Tables,
    /// `/proc/self/pagemap`.
    Pagemap,
    /// Not at all: what the driver says of its frames, for what was touched.
    Driver,
}

/// The mapping.
pub struct Specimen {
    /// Whose memory it is.
    pub kind: Kind,
    /// By what it was mapped.
    pub method: Method,
    /// The memory.
    pub buffer: Buffer,
    /// Where it is mapped.
    pub memory: Mapping,
    /// Bytes from its beginning on that were read.
    pub touched: u64,
    /// Page faults that reading took.
    pub faults: i64,
    /// What the tables have, in the order of addresses.
    pub rows: Vec<Row>,
    /// How that was seen.
    pub source: Source,
}

impl Specimen {
    /// Makes one. For methods that map by faults, only the first half is touched.
    pub fn new(name: &str, kind: Option<Kind>, cache: Cache, pages: u64) -> Result<Self, Failure> {
        let unknown = || Failure::Usage(format!("there is no method '{name}'"));
        let method = Method::from_name(name).ok_or_else(unknown)?;
        let kind = kind.unwrap_or(suitable(method));
        let page_size = rustix::param::page_size() as u64;
        let pages = pages.clamp(1, 16 * HUGE / page_size);
        let device = Device::open()?;
        let wanted = AllocOptions::new(kind, pages * page_size).cache(cache);
        let buffer = wanted.alloc(&device)?;
        let memory = MapOptions::new().method(method).map(&buffer)?;
        let by_fault = matches!(
            method,
            Method::Auto | Method::FaultPage | Method::FaultPfn | Method::FaultHuge
        );
        let large = pages * page_size >= 2 * HUGE;
        let step = if large { HUGE } else { page_size };
        let touched = if by_fault {
            memory.len() / 2
        } else {
            memory.len()
        };
        let before = minor_faults();
        for at in (0..touched.max(1)).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            memory.read::<u8>(at)?;
        }
        let faults = minor_faults() - before;
        let touched = touched as u64;
        let (rows, source) = look(&memory, &buffer.segments()?, pages, touched);
        if rows.iter().any(|row| row.physical == Some(0)) {
            return Err(Failure::Usage(
                "only root can see frames: run it as root".to_owned(),
            ));
        }
        Ok(Self {
            kind,
            method,
            buffer,
            memory,
            touched,
            faults,
            rows,
            source,
        })
    }

    /// The size of its entries, the largest that there is.
    pub fn entry(&self) -> u64 {
        let largest = self.rows.iter().map(|row| row.bytes).max();
        largest.unwrap_or(rustix::param::page_size() as u64)
    }
}

fn minor_faults() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.minor_page_faults())
}

/// The kind of memory that shows best what a method is for.
fn suitable(method: Method) -> Kind {
    match method {
        Method::Remap | Method::Iomap | Method::IoRemap | Method::FaultPfn => Kind::Contiguous,
        Method::RemapEach | Method::Vmalloc | Method::FaultPage => Kind::Vmalloc,
        Method::Dma => Kind::Coherent,
        _ => Kind::Pages,
    }
}

/// The rows, as well as they can be had.
fn look(memory: &Mapping, segments: &[Segment], pages: u64, touched: u64) -> (Vec<Row>, Source) {
    if let Ok(rows) = from_tables(memory, pages) {
        return (rows, Source::Tables);
    }
    let mut table = frames::of_mapping(memory).unwrap_or_default();
    let mut source = Source::Pagemap;
    if table.iter().all(|page| *page == Page::Absent) {
        table = by_number(segments, pages, touched);
        source = Source::Driver;
    }
    let page_size = rustix::param::page_size() as u64;
    let rows = (0..).zip(&table).map(|(page, entry)| Row {
        page,
        physical: match entry {
            Page::Frame(frame) => Some(frame * page_size),
            Page::Absent => None,
        },
        bytes: page_size,
        cached: None,
    });
    (rows.collect(), source)
}

/// The same, from the tables themselves.
fn from_tables(memory: &Mapping, pages: u64) -> std::io::Result<Vec<Row>> {
    let page_size = rustix::param::page_size() as u64;
    let start = memory.as_ptr().addr() as u64;
    let entries = tables()?.entries(start, pages * page_size)?;
    let step = entries.iter().map(|entry| entry.bytes).max();
    let step = step.unwrap_or(page_size);
    let mut rows = Vec::new();
    let mut page = 0;
    while page < pages {
        let address = start + page * page_size;
        let here = entries
            .iter()
            .find(|entry| entry.address <= address && address - entry.address < entry.bytes);
        let row = Row {
            page,
            physical: here.map(|entry| entry.physical + (address - entry.address)),
            bytes: here.map_or(page_size, |entry| entry.bytes),
            cached: here.map(|entry| entry.cached),
        };
        // Where nothing is, one row stands for as much as an entry covers elsewhere.
        let covered = match here {
            Some(entry) => entry.address + entry.bytes - address,
            None => step,
        };
        rows.push(row);
        page += (covered / page_size).max(1);
    }
    Ok(rows)
}

/// The tables, found once.
fn tables() -> std::io::Result<&'static Tables> {
    static FOUND: OnceLock<Option<Tables>> = OnceLock::new();
    let found = FOUND.get_or_init(|| Tables::own().ok());
    found.as_ref().ok_or(ErrorKind::Unsupported.into())
}

/// What the driver says of its frames, for what was touched.
fn by_number(segments: &[Segment], pages: u64, touched: u64) -> Vec<Page> {
    let page_size = rustix::param::page_size() as u64;
    (0..pages)
        .map(|page| {
            let offset = page * page_size;
            let segment = segments.iter().find(|segment| {
                offset >= segment.offset && offset - segment.offset < segment.length
            });
            match segment {
                _ if offset >= touched => Page::Absent,
                Some(segment) if segment.physical_address != ADDRESS_HIDDEN => {
                    Page::Frame((segment.physical_address + (offset - segment.offset)) / page_size)
                }
                _ => Page::Frame(0),
            }
        })
        .collect()
}
