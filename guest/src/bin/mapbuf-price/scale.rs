//! What an operation costs among many objects, and after many operations.

use super::sys::{First, Mapped};
use super::{tell, timed, Result, PAUSE};
use mapbuf::{raw, Buffer, Device, Kind, Method, NameOptions};
use mapbuf_abi::Segment;
use mapbuf_guest::price::Scaled;
use std::os::fd::{AsFd, AsRawFd};

/// A page.
const PAGE: u64 = 4096;
/// A buffer whose ranges use up all offsets in a million imports.
const LARGE: u64 = 64 << 20;
/// How often each operation is measured; the median counts.
const ROUNDS: usize = 15;
/// Rows of one answer of SEGMENTS.
const ROWS: usize = 8;
/// Objects that there are while the many operations go by.
const AMONG: usize = 1000;

/// Measures among each of these numbers of objects, and after so many operations.
pub fn scale(objects: &[usize], operations: u64) -> Result<()> {
    for &count in objects {
        state(count, 0)?;
    }
    if operations > 0 {
        state(AMONG, operations)?;
    }
    Ok(())
}

/// The buffers of a session, all of them named.
struct State {
    device: Device,
    buffers: Vec<Buffer>,
}

impl Drop for State {
    fn drop(&mut self) {
        for number in 0..self.buffers.len() {
            // What is left fails the next state's names.
            let _ = self.device.unname(&name(number));
        }
    }
}

fn name(number: usize) -> String {
    format!("scale-{number}")
}

fn state(count: usize, operations: u64) -> Result<()> {
    let device = Device::open()?;
    let mut state = State {
        device: device.clone(),
        buffers: Vec::new(),
    };
    for number in 0..count {
        let buffer = device.alloc(Kind::Pages, PAGE)?;
        NameOptions::new(name(number)).name(&buffer)?;
        state.buffers.push(buffer);
    }
    if operations > 0 {
        let large = device.alloc(Kind::Pages, LARGE)?;
        let exported = large.export()?;
        for _ in 0..operations / 2 {
            device.import(&exported)?.free()?;
        }
    }
    // As many pages, and runs of them.
    let scattered = device.alloc(Kind::Vmalloc, count as u64 * PAGE)?;
    let (_, runs) = raw::segments(&device, scattered.id(), 0, &mut [])?;
    measure(&state, count, operations, &scattered, runs)
}

fn measure(
    state: &State,
    count: usize,
    operations: u64,
    scattered: &Buffer,
    runs: u32,
) -> Result<()> {
    const STEPS: [&str; 9] = [
        "ALLOC",
        "OFFSET, first",
        "OFFSET, known",
        "INFO",
        "mmap",
        "NAME",
        "UNNAME",
        "FREE",
        "SEGMENTS, last rows",
    ];
    let device = &state.device;
    let first = First::new()?;
    let mut all = [const { Vec::new() }; STEPS.len()];
    for _ in 0..ROUNDS {
        // What the last round left to the kernel's threads is done now.
        std::thread::sleep(PAUSE);
        let (buffer, alloc) = timed(|| device.alloc(Kind::Pages, PAGE));
        let buffer = buffer?;
        let (offset, fresh) = timed(|| buffer.offset(Method::Insert));
        offset?;
        let (offset, known) = timed(|| buffer.offset(Method::Insert));
        offset?;
        let (info, told) = timed(|| buffer.info());
        info?;
        let fd = device.as_fd().as_raw_fd();
        let (mapped, map) =
            timed(|| Mapped::new(Some(fd), buffer.mmap_offset(), PAGE as usize, None));
        mapped?.unmap()?;
        let options = NameOptions::new("scale-one-more");
        let (named, naming) = timed(|| options.name(&buffer));
        named?;
        let (unnamed, unnaming) = timed(|| device.unname("scale-one-more"));
        unnamed?;
        let (freed, free) = timed(|| buffer.free());
        freed?;
        let mut rows = [Segment::default(); ROWS];
        let from = runs.saturating_sub(ROWS as u32);
        let (read, segments) = timed(|| raw::segments(device, scattered.id(), from, &mut rows));
        read?;
        let costs = [
            alloc, fresh, known, told, map, naming, unnaming, free, segments,
        ];
        for (list, cost) in all.iter_mut().zip(costs) {
            list.push(cost);
        }
    }
    drop(first);
    for (operation, mut costs) in STEPS.into_iter().zip(all) {
        costs.sort_unstable();
        tell(&Scaled {
            operation: operation.to_owned(),
            objects: count as u64,
            operations,
            instructions: costs.get(costs.len() / 2).copied().unwrap_or_default(),
        })?;
    }
    Ok(())
}
