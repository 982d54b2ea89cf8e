//! What is looked for in the guest's page tables, and in its memory.

use super::promise::{is_special, Buffer};
use anyhow::{bail, Context, Result};
use mapbuf_guest::witness::{
    answer, copy_tag, is_copied, tag, Cell, Memory, Piece, Sharing, Sight, Touched, Window,
    DEVICE_BYTES, MEMORIES, PAGE,
};
use mapbuf_policy::plan::{decide, Way};
use mapbuf_vm::pagetable::{Frames, Leaf, Memtype, PhysicalMemory, Size, Tables};
use mapbuf_vm::shared::SharedMemory;
use std::collections::BTreeMap;
use std::ops::Range;

/// Complaints about one look; more would say the same again.
const MOST: usize = 4;

/// What the guest has at its physical addresses, as far as the host shares it.
pub struct World {
    ram: SharedMemory,
    device: SharedMemory,
    window: Option<Window>,
}

impl World {
    /// Memory from address 0 on, and a device's memory, of which only the guest knows where it lies.
    pub fn new(ram: SharedMemory, device: SharedMemory) -> Self {
        Self {
            ram,
            device,
            window: None,
        }
    }

    /// Learns where the device's memory lies.
    pub fn place_device(&mut self, window: Window) -> Result<()> {
        if window.bytes != DEVICE_BYTES || window.start < self.ram.bytes() {
            bail!("the device's memory cannot be {window:x?}");
        }
        self.window = Some(window);
        Ok(())
    }

    fn locate(&self, address: u64) -> Result<(&SharedMemory, u64)> {
        if address < self.ram.bytes() {
            return Ok((&self.ram, address));
        }
        let within = |window: Window| address.checked_sub(window.start);
        self.window
            .and_then(within)
            .filter(|offset| *offset < self.device.bytes())
            .map(|offset| (&self.device, offset))
            .with_context(|| format!("there is nothing at {address:#x}"))
    }

    /// A word of 64 bits.
    pub fn word(&self, address: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Writes a word of 64 bits.
    pub fn write(&self, address: u64, word: u64) -> Result<()> {
        let (memory, offset) = self.locate(address)?;
        memory.write(offset, &word.to_le_bytes())
    }
}

impl PhysicalMemory for World {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let (memory, offset) = self.locate(address)?;
        memory.read(offset, bytes)
    }
}

/// What a look has found.
#[derive(Default)]
pub struct Seen {
    /// What there is.
    pub seen: Vec<String>,
    /// What should not be.
    pub wrong: Vec<String>,
}

impl Seen {
    fn complain(&mut self, complaint: String) {
        if self.wrong.len() < MOST {
            self.wrong.push(complaint);
        }
    }

    fn check(&mut self, well: bool, complaint: impl FnOnce() -> String) {
        if !well {
            self.complain(complaint());
        }
    }
}

/// Looks at a mapping, or at what is left of a buffer.
pub fn look(
    tables: &Tables<World>,
    world: &World,
    test: &str,
    cell: Option<&Cell>,
    pieces: &[Piece],
    look: u64,
    sight: Sight,
) -> Result<Seen> {
    let mut seen = Seen::default();
    match sight {
        Sight::Mapped {
            start,
            bytes,
            touched,
        } => {
            let cell = cell.context("a cell that nobody knows")?;
            let buffer = Buffer::new(cell.memory, cell.cache, pieces);
            seen.check(bytes == cell.pages() * PAGE, || {
                format!("{bytes} bytes are mapped")
            });
            match decide(&buffer, &buffer.request(cell)) {
                Ok(plan) => {
                    let view = UserView {
                        cell,
                        buffer: &buffer,
                        way: plan.way,
                        start,
                        end: start + bytes,
                        touched,
                    };
                    view.check(tables, world, look, &mut seen)?;
                }
                Err(refusal) => {
                    seen.complain(format!("it maps; the table says {}", refusal.reason.name()))
                }
            }
            kernel_views(tables, cell.memory, &buffer, &mut seen)?;
            exchange_words(world, cell, &buffer, look, &mut seen)?;
        }
        Sight::Freed => {
            let memory = MEMORIES
                .iter()
                .find(|memory| test.contains(&format!("::{}/", memory.name)))
                .context("memory that nobody knows")?;
            freed(tables, memory, pieces, &mut seen)?;
        }
    }
    Ok(seen)
}

/// A mapping in user space.
struct UserView<'a> {
    cell: &'a Cell,
    buffer: &'a Buffer<'a>,
    way: Way,
    start: u64,
    end: u64,
    touched: Touched,
}

impl UserView<'_> {
    fn check(
        &self,
        tables: &Tables<World>,
        world: &World,
        look: u64,
        seen: &mut Seen,
    ) -> Result<()> {
        let leaves = tables.range(self.start, self.end - self.start)?;
        seen.seen.push(summary("user", &leaves));
        let mut at = self.start;
        for leaf in &leaves {
            seen.check(leaf.address == at, || {
                format!("nothing is mapped from {at:#x} to {:#x}", leaf.address)
            });
            at = leaf.last() + 1;
            let page = self.page_at(leaf.address);
            if self.touched == Touched::Copied && self.is_copied(page, leaf) {
                self.check_copy(world, leaf, page, look, seen)?;
            } else {
                self.check_leaf(leaf, page, seen);
            }
        }
        seen.check(at == self.end, || {
            format!("nothing is mapped from {at:#x} to {:#x}", self.end)
        });
        let largest = leaves.iter().map(|leaf| leaf.size).max();
        let possible = self.possible();
        // The user does not choose the address, so the driver has chosen one where entries fit.
        seen.check(
            self.touched == Touched::Copied || largest >= Some(possible),
            || format!("no entry has {possible}, though the memory is large enough"),
        );
        Ok(())
    }

    /// The buffer's page at an address.
    fn page_at(&self, address: u64) -> u64 {
        self.cell.first + address.saturating_sub(self.start) / PAGE
    }

    fn is_copied(&self, page: u64, leaf: &Leaf) -> bool {
        is_copied(page, self.cell.memory.pages) && leaf.size == Size::Small
    }

    fn check_leaf(&self, leaf: &Leaf, page: u64, seen: &mut Seen) {
        let frame = self.buffer.frame(page);
        seen.check(frame == Some(leaf.frame), || {
            format!("page {page} lies at {frame:x?}; mapped is {leaf}")
        });
        let size = self.promised_size(leaf.address);
        let well = match self.touched {
            Touched::Copied => leaf.size <= size,
            Touched::Written | Touched::Read => leaf.size == size,
        };
        seen.check(well, || format!("promised is an entry of {size}: {leaf}"));
        let memtype = self.buffer.memtype();
        seen.check(leaf.memtype == memtype, || {
            format!("promised is {memtype}: {leaf}")
        });
        let write = self.cell.sharing == Sharing::Shared;
        seen.check(leaf.write == write, || {
            format!("promised is write = {write}: {leaf}")
        });
        let special = is_special(self.way);
        seen.check(leaf.special == special, || {
            format!("promised is special = {special}: {leaf}")
        });
        seen.check(leaf.user && !leaf.execute, || {
            format!("neither for the kernel nor for code: {leaf}")
        });
    }

    /// A private copy is an ordinary page of the program's own.
    fn check_copy(
        &self,
        world: &World,
        leaf: &Leaf,
        page: u64,
        look: u64,
        seen: &mut Seen,
    ) -> Result<()> {
        let frames = self.buffer.frames();
        let own = |frames: &Frames| frames.start <= leaf.frame && leaf.frame < frames.end();
        seen.check(!frames.iter().any(own), || {
            format!("a private copy lies in the buffer: {leaf}")
        });
        let ordinary = leaf.memtype == Memtype::WriteBack && leaf.user && !leaf.execute;
        seen.check(ordinary && leaf.write && !leaf.special, || {
            format!("a private copy is no ordinary page: {leaf}")
        });
        let word = world.word(leaf.frame)?;
        let expected = copy_tag(look, page);
        seen.check(word == expected, || {
            format!("the copy of page {page} has {word:#x}, not {expected:#x}")
        });
        Ok(())
    }

    /// The size of the entry that the plan promises at an address.
    fn promised_size(&self, address: u64) -> Size {
        let largest = self.buffer.largest(self.way);
        let fits = |size: &Size| {
            let block = address & !(size.bytes() - 1);
            *size <= largest
                && block >= self.start
                && block + size.bytes() <= self.end
                && self.buffer.holds(self.page_at(block), *size)
        };
        let huge = [Size::Giant, Size::Large].into_iter().find(fits);
        huge.unwrap_or(Size::Small)
    }

    /// The largest entry that is possible at an address that the driver may choose: by the memory, wherever its frames
    /// lie.
    fn possible(&self) -> Size {
        let largest = self.buffer.largest(self.way);
        let pages = self.cell.memory.pages;
        let fits = |size: &Size| {
            let step = size.bytes() / PAGE;
            let starts = self.cell.first..(pages + 1).saturating_sub(step);
            *size <= largest
                && starts
                    .into_iter()
                    .any(|page| self.buffer.holds(page, *size))
        };
        let huge = [Size::Giant, Size::Large].into_iter().find(fits);
        huge.unwrap_or(Size::Small)
    }
}

/// The kernel's own views of a buffer: all of them, wherever they lie, have its cache mode.
fn kernel_views(
    tables: &Tables<World>,
    memory: &Memory,
    buffer: &Buffer,
    seen: &mut Seen,
) -> Result<()> {
    let views = KernelViews::find(tables, buffer)?;
    views.describe(seen);
    views.check_memtype(buffer.memtype(), seen);
    let all = memory.pages * PAGE;
    // Memory of the page allocator's is in the linear map; a range that is not the kernel's own is in a view that the
    // driver has made.
    let (linear, area) = (views.covered(&views.linear), views.covered(&views.areas));
    if memory.region.is_none() {
        seen.check(linear == all, || {
            format!("the linear map shows {linear} of {all} bytes")
        });
    }
    if memory.region.is_some() || memory.kind == mapbuf_abi::Kind::Vmalloc {
        seen.check(area == all, || {
            format!("the kernel's own areas show {area} of {all} bytes")
        });
    }
    Ok(())
}

/// After a buffer is gone, its memory is ordinary again, and the driver's views of it are gone.
fn freed(
    tables: &Tables<World>,
    memory: &'static Memory,
    pieces: &[Piece],
    seen: &mut Seen,
) -> Result<()> {
    let buffer = Buffer::new(memory, mapbuf_abi::Cache::Cached, pieces);
    let views = KernelViews::find(tables, &buffer)?;
    views.describe(seen);
    let all = memory.pages * PAGE;
    let (linear, area) = (views.covered(&views.linear), views.covered(&views.areas));
    if memory.region.is_some() {
        seen.check(area == 0, || {
            format!("{area} bytes of a released region are still in the kernel's areas")
        });
    } else {
        views.check_memtype(Memtype::WriteBack, seen);
        seen.check(linear == all, || {
            format!("the linear map shows {linear} of {all} bytes")
        });
        // Others may have got some of the memory by now.
        seen.check(area < all, || "the kernel's area is still there".into());
    }
    Ok(())
}

struct KernelViews {
    linear: Vec<Leaf>,
    areas: Vec<Leaf>,
    others: Vec<Leaf>,
    frames: Vec<Frames>,
}

impl KernelViews {
    fn find(tables: &Tables<World>, buffer: &Buffer) -> Result<Self> {
        let frames = buffer.frames();
        let all = tables.kernel_views(&frames)?;
        let vmalloc: Range<u64> = tables.vmalloc_areas();
        let is_linear =
            |leaf: &Leaf| leaf.address.checked_sub(tables.linear_map()) == Some(leaf.frame);
        let (linear, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_linear);
        let (areas, others) = rest
            .into_iter()
            .partition(|leaf: &Leaf| vmalloc.contains(&leaf.address));
        Ok(Self {
            linear,
            areas,
            others,
            frames,
        })
    }

    /// Bytes of the frames that these entries show.
    fn covered(&self, leaves: &[Leaf]) -> u64 {
        let mut bytes = 0;
        for leaf in leaves {
            let end = leaf.frame + leaf.size.bytes();
            let first = self
                .frames
                .partition_point(|frames| frames.end() <= leaf.frame);
            let rest = self.frames.iter().skip(first);
            for frames in rest.take_while(|frames| frames.start < end) {
                bytes += frames.end().min(end) - frames.start.max(leaf.frame);
            }
        }
        bytes
    }

    fn describe(&self, seen: &mut Seen) {
        let groups = [
            ("linear map", &self.linear),
            ("kernel's areas", &self.areas),
            ("elsewhere in the kernel", &self.others),
        ];
        for (name, leaves) in groups {
            if !leaves.is_empty() {
                seen.seen.push(summary(name, leaves));
            }
        }
    }

    fn check_memtype(&self, memtype: Memtype, seen: &mut Seen) {
        for leaf in self.linear.iter().chain(&self.areas).chain(&self.others) {
            seen.check(leaf.memtype == memtype, || {
                format!("the kernel's view is not {memtype}: {leaf}")
            });
            seen.check(!leaf.user, || {
                format!("the kernel's view is for users: {leaf}")
            });
        }
        for leaf in self.linear.iter().chain(&self.areas) {
            seen.check(!leaf.execute, || {
                format!("the kernel's view is for code: {leaf}")
            });
        }
    }
}

/// The bytes: what the program wrote is in the buffer's frames, and gets an answer there.
fn exchange_words(
    world: &World,
    cell: &Cell,
    buffer: &Buffer,
    look: u64,
    seen: &mut Seen,
) -> Result<()> {
    for page in cell.touched() {
        let Some(frame) = buffer.frame(page) else {
            seen.complain(format!("page {page} lies nowhere"));
            continue;
        };
        let (word, expected) = (world.word(frame)?, tag(look, page));
        seen.check(word == expected, || {
            format!("page {page}, at {frame:#x}, has {word:#x}, not {expected:#x}")
        });
        world.write(frame + 8, answer(look, page))?;
    }
    Ok(())
}

/// How many entries there are of each sort.
fn summary(name: &str, leaves: &[Leaf]) -> String {
    let mut sorts: BTreeMap<(Size, String), usize> = BTreeMap::new();
    for leaf in leaves {
        let write = if leaf.write { "rw" } else { "r" };
        let special = if leaf.special { " special" } else { "" };
        let sort = format!("{} {write}{special}", leaf.memtype);
        *sorts.entry((leaf.size, sort)).or_default() += 1;
    }
    let sorts: Vec<_> = sorts
        .iter()
        .rev()
        .map(|((size, sort), count)| format!("{count} x {size} {sort}"))
        .collect();
    format!("{name}: {}", sorts.join(", "))
}
