//! The buffers that are tried, and which parts of them.

use super::{
    answer::Answer,
    memory::{Memory, OfRegion},
};
use crate::{failure::Failure, module};
use mapbuf::{AllocOptions, Buffer, Cache, Device, Kind, Named, Refusal, RegionState, RegionType};
use mapbuf_policy::region::declarations;

/// A part of a buffer, in pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    pub page: u64,
    pub pages: u64,
}

impl Part {
    pub fn whole(pages: u64) -> Self {
        Self { page: 0, pages }
    }
}

/// How much of a buffer may be touched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Touch {
    /// Not at all: a device.
    Nothing,
    /// Read and written.
    All,
}

/// The size of a buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// 16 pages, as scattered as the kind may be.
    Small,
    /// As much as one huge entry.
    Huge,
    /// Two of them.
    TwoHuge,
}

const SMALL: u64 = 16;
const HUGE: u64 = 2 << 20;

impl Shape {
    fn bytes(self, page: u64) -> u64 {
        match self {
            Self::Small => SMALL * page,
            Self::Huge => HUGE,
            Self::TwoHuge => 2 * HUGE,
        }
    }

    fn parts(self, page: u64) -> Vec<Part> {
        let pages = self.bytes(page) / page;
        let part = |page, pages| Part { page, pages };
        let mut parts = vec![Part::whole(pages), part(pages - 1, 2)];
        match self {
            Self::Small => parts.extend([part(7, 1), part(5, 6)]),
            Self::Huge => parts.push(part(pages / 2, pages / 4)),
            // A huge entry alone, one behind a part that has none, and less than one.
            Self::TwoHuge => parts.extend([
                part(pages / 2, pages / 2),
                part(pages / 4, pages * 3 / 4),
                part(pages / 4, pages / 8),
            ]),
        }
        parts
    }
}

/// The sizes that are tried of a kind.
pub fn shapes(kind: Kind, cache: Cache) -> Vec<Shape> {
    match (kind, cache) {
        // A single folio, where twice as much would be pages that are mapped by frame.
        (Kind::Contiguous, Cache::Cached) => vec![Shape::Small, Shape::Huge, Shape::TwoHuge],
        (Kind::Pages | Kind::Contiguous, _) | (Kind::Coherent, Cache::Cached) => {
            vec![Shape::Small, Shape::TwoHuge]
        }
        _ => vec![Shape::Small],
    }
}

/// A buffer that is tried.
pub struct Subject {
    pub buffer: Buffer,
    pub memory: Memory,
    pub region: Option<String>,
    pub parts: Vec<Part>,
    pub touch: Touch,
    /// The first word of each page, as it was.
    before: Vec<u64>,
}

impl Subject {
    /// Puts back what was there.
    pub fn restore(&self) -> mapbuf::Result<()> {
        let page = rustix::param::page_size() as u64;
        for (word, number) in self.before.iter().zip(0..) {
            self.buffer.write_at(number * page, &word.to_ne_bytes())?;
        }
        Ok(())
    }
}

/// Memory that cannot be had.
pub struct Refused {
    pub kind: Kind,
    pub cache: Cache,
    pub bytes: u64,
    /// The refusal that there must be.
    pub expected: Refusal,
}

impl Refused {
    pub fn pages(&self) -> u64 {
        self.bytes / rustix::param::page_size() as u64
    }

    /// Asks for it.
    pub fn try_again(&self, device: &Device) -> Answer {
        let result = AllocOptions::new(self.kind, self.bytes)
            .cache(self.cache)
            .alloc(device);
        match result {
            Ok(_) => Answer::Wrong("it was allocated".to_owned()),
            Err(error) => Answer::from_error(&error),
        }
    }
}

/// Allocates a buffer, unless the machine cannot have it.
pub fn allocate(
    device: &Device,
    kind: Kind,
    cache: Cache,
    shape: Shape,
) -> Result<Result<Subject, Refused>, Failure> {
    let page = rustix::param::page_size() as u64;
    let bytes = shape.bytes(page);
    if let Err(expected) = mapbuf_policy::request::available(kind, cache) {
        return Ok(Err(Refused {
            kind,
            cache,
            bytes,
            expected,
        }));
    }
    let options = AllocOptions::new(kind, bytes).cache(cache);
    let buffer = match kind {
        Kind::Vmalloc => scattered(device, &options)?,
        _ => options.alloc(device)?,
    };
    Ok(Ok(Subject {
        memory: Memory::of(&buffer, None)?,
        buffer,
        region: None,
        parts: shape.parts(page),
        touch: Touch::All,
        before: Vec::new(),
    }))
}

/// Allocates between holes, as a machine has them that ran for a while: on a fresh one, pages that are taken one after the
/// other lie side by side.
fn scattered(device: &Device, options: &AllocOptions) -> mapbuf::Result<Buffer> {
    const HOLES: usize = 64;
    let (mut holes, mut kept) = (Vec::new(), Vec::new());
    for _ in 0..HOLES {
        holes.push(Some(device.alloc(Kind::Vmalloc, 1)?));
        kept.push(device.alloc(Kind::Vmalloc, 1)?);
    }
    // Pages that were freed last are taken first: freed in no order, they come in none.
    for number in 0..HOLES {
        if let Some(hole) = holes.get_mut(number * 37 % HOLES) {
            drop(hole.take());
        }
    }
    options.alloc(device)
}

/// The regions that are tried: those that are named, and those that may be written to.
pub fn regions(device: &Device, named: &[String]) -> Result<Vec<Subject>, Failure> {
    let page = rustix::param::page_size() as u64;
    let text = module::parameter("regions").unwrap_or_default();
    let declared: Vec<_> = declarations(&text, page).flatten().collect();
    let mut subjects = Vec::new();
    let regions = device.regions()?;
    if let Some(name) = named
        .iter()
        .find(|name| regions.iter().all(|region| region.name != **name))
    {
        return Err(Failure::Usage(format!("there is no region {name}")));
    }
    for region in regions {
        if matches!(region.state, RegionState::Refused | RegionState::Released) {
            continue;
        }
        let asked_for = named.contains(&region.name);
        let declared = declared
            .iter()
            .find(|declared| declared.name.starts_with(region.name.as_bytes()));
        if !asked_for && !declared.is_some_and(|declared| declared.write_probe) {
            continue;
        }
        let node = Named::open(&region.name)?;
        if node.info()?.mappings > 0 {
            let text = format!("region {} is already mapped", region.name);
            return Err(Failure::Usage(text));
        }
        let buffer = device.import(&node.export()?)?;
        let pages = buffer.len() / page;
        let memory = OfRegion {
            class: region.class,
            unbacked: region.state == RegionState::Unbacked
                && !declared.is_some_and(|declared| declared.trust),
        };
        let touch = match region.class {
            RegionType::Ram => Touch::All,
            RegionType::Mmio => Touch::Nothing,
        };
        let mut parts = vec![
            Part::whole(pages),
            Part {
                page: pages - 1,
                pages: 2,
            },
        ];
        if pages > 2 {
            parts.push(Part {
                page: pages / 3,
                pages: pages / 3,
            });
        }
        let before = match touch {
            Touch::All => words(&buffer, pages, page)?,
            Touch::Nothing => Vec::new(),
        };
        subjects.push(Subject {
            memory: Memory::of(&buffer, Some(memory))?,
            buffer,
            region: Some(region.name),
            parts,
            touch,
            before,
        });
    }
    Ok(subjects)
}

fn words(buffer: &Buffer, pages: u64, page: u64) -> mapbuf::Result<Vec<u64>> {
    let mut word = [0; 8];
    (0..pages)
        .map(|number| {
            buffer.read_at(number * page, &mut word)?;
            Ok(u64::from_ne_bytes(word))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_alone_passes_the_end() {
        for page in [4096, 16384, 65536] {
            for shape in [Shape::Small, Shape::Huge, Shape::TwoHuge] {
                let pages = shape.bytes(page) / page;
                let parts = shape.parts(page);
                let beyond = parts
                    .iter()
                    .filter(|part| part.page + part.pages > pages)
                    .count();
                assert_eq!(beyond, 1, "{shape:?}, pages of {page}");
                // The library looks at the offset by itself.
                assert!(parts.iter().all(|part| part.page < pages && part.pages > 0));
            }
        }
    }

    #[test]
    fn every_kind_and_cache_mode_is_tried() {
        for &kind in Kind::own() {
            for &cache in Cache::ALL {
                assert!(shapes(kind, cache).contains(&Shape::Small));
            }
        }
    }
}
