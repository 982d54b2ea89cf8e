//! Maps every kind of memory in every way, one after the other, and has the host look at each from outside.
//!
//! `mapbuf-witness [FILTER[,FILTER]...]` loads the module that `MAPBUF_MODULE` names, with regions in reserved memory
//! and in the memory of PCI devices. `mapbuf_guest::witness` says what it tells the host; on a terminal it is of no
//! use, since it waits for the host's look. `--list` prints the names of all results.

mod beacon;
mod devices;
mod report;

use beacon::Beacon;
use devices::Devices;
use mapbuf::{
    AllocOptions, Buffer, Cache, Device, Error as Refused, Export, MapOptions, Mapping, Named,
    ProbeOptions, Reason, RegionState,
};
use mapbuf_guest::witness::{
    self, answer, cells, chosen, copy_tag, freed_name, held_name, is_copied, names, tag, Cell,
    Memory, Message, Ones, Piece, Sharing, Sight, Touched, CACHED_TEST, MEMORIES, ONES_TESTS, PAGE,
};
use report::send;
use std::error::Error;
use std::fs;
use std::process::ExitCode;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = match arguments.as_slice() {
        [] => "",
        [list] if list == "--list" => {
            for name in names() {
                println!("{name}");
            }
            return ExitCode::SUCCESS;
        }
        [filter] if !filter.starts_with('-') => filter,
        _ => {
            eprintln!("usage: mapbuf-witness [--list | FILTER[,FILTER]...]");
            return ExitCode::from(2);
        }
    };
    match run(filter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mapbuf-witness: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(filter: &str) -> Result<()> {
    let devices = Devices::find()?;
    devices.load_module()?;
    // A private mapping counts as memory that is in use, and one is as large as this machine.
    fs::write("/proc/sys/vm/overcommit_memory", "1")?;
    let mut witness = Witness {
        beacon: Beacon::new(),
        device: Device::open()?,
        filter,
    };
    send(&Message::Ready {
        beacon: witness.beacon.address(),
        nonce: witness.beacon.nonce(),
        device: devices.shared,
    })?;
    for memory in MEMORIES {
        for &cache in memory.caches {
            let cells: Vec<_> = cells(memory, cache)
                .filter(|cell| chosen(&cell.name(), filter))
                .collect();
            let last = [held_name(memory, cache), freed_name(memory, cache)];
            if !cells.is_empty() || last.iter().any(|name| chosen(name, filter)) {
                witness.buffer(memory, cache, &cells)?;
            }
        }
    }
    if chosen(CACHED_TEST, filter) {
        finish(CACHED_TEST, witness.cached()?)?;
    }
    witness.ones()?;
    witness.release()?;
    Ok(send(&Message::Done)?)
}

struct Witness<'a> {
    beacon: Beacon,
    device: Device,
    filter: &'a str,
}

/// A buffer, and what holds it beside its id.
struct Held {
    buffer: Buffer,
    region: Option<(Named, Export)>,
}

impl Witness<'_> {
    fn get(&self, memory: &Memory, cache: Cache) -> Result<Held, Refused> {
        if memory.region.is_some() {
            let named = Named::open(memory.name)?;
            let export = named.export()?;
            return Ok(Held {
                buffer: self.device.import(&export)?,
                region: Some((named, export)),
            });
        }
        let buffer = AllocOptions::new(memory.kind, memory.pages * PAGE)
            .cache(cache)
            .alloc(&self.device)?;
        Ok(Held {
            buffer,
            region: None,
        })
    }

    /// Everything with one buffer.
    fn buffer(&mut self, memory: &'static Memory, cache: Cache, cells: &[Cell]) -> Result<()> {
        let named = |error| format!("{} {}: {error}", cache.name(), memory.name);
        let held = self.get(memory, cache).map_err(named)?;
        let mut pieces = Vec::new();
        for segment in held.buffer.segments()? {
            pieces.push(Piece {
                offset: segment.offset,
                bytes: segment.length,
                physical: segment.physical_address,
            });
        }
        send(&Message::Buffer { pieces })?;
        for cell in cells {
            self.cell(cell, &held.buffer)?;
        }
        self.held(memory, cache, held)?;
        let freed = freed_name(memory, cache);
        if chosen(&freed, self.filter) {
            self.look(&freed, Sight::Freed)?;
            finish(&freed, Vec::new())?;
        }
        Ok(())
    }

    /// Gives the buffer back while a mapping still holds it.
    fn held(&mut self, memory: &'static Memory, cache: Cache, held: Held) -> Result<()> {
        let test = held_name(memory, cache);
        let look = chosen(&test, self.filter);
        let cell = witness::held(memory, cache);
        let mapping = match look {
            true => Some(MapOptions::new().method(cell.method).map(&held.buffer)?),
            false => None,
        };
        held.buffer.free()?;
        if let Some((named, _export)) = held.region {
            named.unname()?;
        }
        let Some(mapping) = mapping else {
            return Ok(());
        };
        let look = self.beacon.next();
        for page in cell.touched() {
            mapping.write((page * PAGE) as usize, tag(look, page))?;
        }
        let sight = Sight::Mapped {
            start: mapping.as_ptr() as u64,
            bytes: mapping.len() as u64,
            touched: Touched::Written,
        };
        self.look(&test, sight)?;
        let mut wrong = Vec::new();
        for page in cell.touched() {
            let word: u64 = mapping.read((page * PAGE + 8) as usize)?;
            compare("the mapping", page, 8, word, answer(look, page), &mut wrong);
        }
        mapping.unmap()?;
        finish(&test, wrong)
    }

    /// Has the host look; the number of the look.
    fn look(&mut self, test: &str, sight: Sight) -> Result<u64> {
        let look = self.beacon.ask();
        send(&Message::Look {
            test: test.to_owned(),
            look,
            sight,
        })?;
        self.beacon.wait()?;
        Ok(look)
    }

    fn cell(&mut self, cell: &Cell, buffer: &Buffer) -> Result<()> {
        let test = cell.name();
        let options = MapOptions::new()
            .method(cell.method)
            .offset(cell.first * PAGE);
        let options = match cell.sharing {
            Sharing::Shared => options,
            Sharing::PrivateReadOnly => options.private().read_only(),
            Sharing::PrivateWritable => options.private(),
        };
        let view = match options.map(buffer) {
            Ok(mapping) => View {
                mapping,
                buffer,
                cell: *cell,
            },
            Err(error) => {
                let reason = error.reason().map_or(0, Reason::number);
                let text = error.to_string();
                return Ok(send(&Message::Refused { test, reason, text })?);
            }
        };
        let wrong = match cell.sharing {
            Sharing::Shared => self.shared(&test, &view),
            Sharing::PrivateReadOnly => self.private(&test, &view, false),
            Sharing::PrivateWritable => self.private(&test, &view, true),
        };
        finish(&test, wrong?)
    }

    fn shared(&mut self, test: &str, view: &View) -> Result<Vec<String>> {
        let look = self.beacon.next();
        for page in view.cell.touched() {
            view.mapping.write(view.place(page), tag(look, page))?;
        }
        let mut wrong = Vec::new();
        for page in view.cell.touched() {
            view.kernel_shows(page, 0, tag(look, page), &mut wrong)?;
        }
        self.look(test, view.sight(Touched::Written))?;
        view.answered(look, false, &mut wrong)?;
        Ok(wrong)
    }

    fn private(&mut self, test: &str, view: &View, write: bool) -> Result<Vec<String>> {
        let look = self.beacon.next();
        let mut wrong = Vec::new();
        for page in view.cell.touched() {
            view.buffer
                .write_at(page * PAGE, &tag(look, page).to_ne_bytes())?;
        }
        for page in view.cell.touched() {
            view.shows(page, 0, tag(look, page), &mut wrong)?;
        }
        self.look(test, view.sight(Touched::Read))?;
        view.answered(look, false, &mut wrong)?;
        if !write {
            return Ok(wrong);
        }
        let first = look;
        let look = self.beacon.next();
        for page in view.cell.touched() {
            // The buffer's own word, in pages that are not copied yet.
            view.buffer
                .write_at(page * PAGE, &tag(look, page).to_ne_bytes())?;
        }
        for page in view.cell.touched().filter(|&page| view.copied(page)) {
            view.mapping.write(view.place(page), copy_tag(look, page))?;
        }
        for page in view.cell.touched() {
            let expected = match view.copied(page) {
                true => copy_tag(look, page),
                false => tag(look, page),
            };
            view.shows(page, 0, expected, &mut wrong)?;
            view.kernel_shows(page, 0, tag(look, page), &mut wrong)?;
        }
        self.look(test, view.sight(Touched::Copied))?;
        view.answered(look, true, &mut wrong)?;
        // A copy keeps what stood in the page when it was made.
        for page in view.cell.touched().filter(|&page| view.copied(page)) {
            view.shows(page, 8, answer(first, page), &mut wrong)?;
        }
        Ok(wrong)
    }

    /// What the memory cannot have is refused, never dropped without a word.
    fn cached(&self) -> Result<Vec<String>> {
        let state = self.state(devices::CACHED)?;
        if state == RegionState::Refused {
            return Ok(Vec::new());
        }
        let complaint = "memory that the range registers make uncached passes for cached";
        Ok(vec![format!("{complaint}: {}", state.name())])
    }

    /// The question's case: a range that maps without a word and then reads ones for ever.
    fn ones(&self) -> Result<()> {
        for (test, state) in ONES_TESTS {
            if !chosen(test, self.filter) {
                continue;
            }
            let wrong = match state {
                Ones::Suspect => self.suspect(),
                Ones::Unbacked => self.unbacked(),
                Ones::Trusted => self.trusted(),
            };
            let wrong = wrong.unwrap_or_else(|error| vec![error.to_string()]);
            finish(test, wrong)?;
        }
        Ok(())
    }

    /// Takes the names of all regions: named buffers keep the module.
    fn release(&self) -> Result<()> {
        for region in self.device.regions()? {
            // Most are gone already.
            let _ = self.device.unname(&region.name);
        }
        Ok(())
    }

    fn state(&self, name: &str) -> Result<RegionState> {
        let regions = self.device.regions()?;
        let region = regions.iter().find(|region| region.name == name);
        Ok(region.ok_or(format!("there is no region {name}"))?.state)
    }

    /// Read when it was registered, and suspect; it maps, and reads ones. A probe by writing settles it.
    fn suspect(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut expect = |what: &str, state, expected| {
            if state != expected {
                wrong.push(format!("{what} it {state:?}, not {expected:?}"));
            }
        };
        expect(
            "when loaded",
            self.state(devices::SUSPECT)?,
            RegionState::ReadsOnes,
        );
        let named = Named::open(devices::SUSPECT)?;
        let mapping = named.map()?;
        let word: u64 = mapping.read(0)?;
        mapping.write(0, 0_u64)?;
        let kept: u64 = mapping.read(0)?;
        drop(mapping);
        let probed = ProbeOptions::new().probe(&named)?;
        expect("when read", probed.state, RegionState::ReadsOnes);
        let counted = (probed.ones > 0, probed.zeros, probed.others);
        let probed = ProbeOptions::new().write().probe(&named)?;
        expect("when written", probed.state, RegionState::Unbacked);
        expect(
            "in the list",
            self.state(devices::SUSPECT)?,
            RegionState::Unbacked,
        );
        if (word, kept) != (u64::MAX, u64::MAX) {
            wrong.push(format!(
                "it reads {word:#x}, and {kept:#x} after a write of 0"
            ));
        }
        if counted != (true, 0, 0) {
            wrong.push(format!("a probe counts {probed:?}"));
        }
        refused_as_unbacked(&named, &mut wrong);
        Ok(wrong)
    }

    /// Probed by writing when it was registered: nothing maps it.
    fn unbacked(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let state = self.state(devices::UNBACKED)?;
        if state != RegionState::Unbacked {
            wrong.push(format!("when loaded it is {state:?}"));
        }
        refused_as_unbacked(&Named::open(devices::UNBACKED)?, &mut wrong);
        Ok(wrong)
    }

    /// Declared to be mapped all the same.
    fn trusted(&self) -> Result<Vec<String>> {
        let mapping = Named::open(devices::TRUSTED)?.map()?;
        let word: u64 = mapping.read(0)?;
        Ok(match word {
            u64::MAX => Vec::new(),
            _ => vec![format!("it reads {word:#x}")],
        })
    }
}

fn refused_as_unbacked(named: &Named, wrong: &mut Vec<String>) {
    match named.map() {
        Ok(_) => wrong.push("it maps, though there is nothing behind it".into()),
        Err(error) if error.reason() == Some(Reason::RegionUnbacked) => {}
        Err(error) => wrong.push(error.to_string()),
    }
}

fn finish(test: &str, wrong: Vec<String>) -> Result<()> {
    Ok(send(&Message::Result {
        test: test.to_owned(),
        wrong,
    })?)
}

/// A mapping, with the memory that it shows.
struct View<'a> {
    mapping: Mapping,
    buffer: &'a Buffer,
    cell: Cell,
}

impl View<'_> {
    fn sight(&self, touched: Touched) -> Sight {
        Sight::Mapped {
            start: self.mapping.as_ptr() as u64,
            bytes: self.mapping.len() as u64,
            touched,
        }
    }

    /// Where a page of the buffer begins in the mapping.
    fn place(&self, page: u64) -> usize {
        ((page - self.cell.first) * PAGE) as usize
    }

    fn copied(&self, page: u64) -> bool {
        is_copied(page, self.cell.memory.pages)
    }

    /// That a word of a page is this one, in the mapping.
    fn shows(&self, page: u64, at: u64, expected: u64, wrong: &mut Vec<String>) -> Result<()> {
        let word: u64 = self.mapping.read(self.place(page) + at as usize)?;
        compare("the mapping", page, at, word, expected, wrong);
        Ok(())
    }

    /// That a word of a page is this one, in the kernel's view.
    fn kernel_shows(
        &self,
        page: u64,
        at: u64,
        expected: u64,
        wrong: &mut Vec<String>,
    ) -> Result<()> {
        let mut word = [0; 8];
        self.buffer.read_at(page * PAGE + at, &mut word)?;
        let word = u64::from_ne_bytes(word);
        compare("the kernel's view", page, at, word, expected, wrong);
        Ok(())
    }

    /// That what the host wrote is there.
    fn answered(&self, look: u64, copied: bool, wrong: &mut Vec<String>) -> Result<()> {
        for page in self.cell.touched() {
            if !(copied && self.copied(page)) {
                self.shows(page, 8, answer(look, page), wrong)?;
            }
            self.kernel_shows(page, 8, answer(look, page), wrong)?;
        }
        Ok(())
    }
}

/// One complaint is enough for a whole buffer.
fn compare(who: &str, page: u64, at: u64, word: u64, expected: u64, wrong: &mut Vec<String>) {
    if word != expected && wrong.len() < 4 {
        wrong.push(format!(
            "{who} has {word:#x} at byte {at} of page {page}, not {expected:#x}"
        ));
    }
}
