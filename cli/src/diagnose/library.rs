//! What the C library refuses by itself: an offset within a page (`mmap64` of glibc looks before it calls), of which the
//! kernel never hears.
//!
//! A trap waits in the program's memory where the library turns to that error, and nowhere else: a program that does not go
//! there runs as ever. (A uprobe would have to be taken out of every process that has the library, also out of one that the
//! kernel stopped with its memory map locked, and would wait for that for ever.)

use nix::{sys::ptrace, unistd::Pid};
use object::{Object, ObjectSegment, ObjectSymbol};
use std::{
    collections::BTreeMap,
    ffi::c_long,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

/// `AT_BASE` and `AT_ENTRY`, `include/uapi/linux/auxvec.h`.
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
/// `int3`
const TRAP: c_long = 0xcc;
/// `test $0xfff, %r9d`: the look at the offset.
const TEST: [u8; 7] = [0x41, 0xf7, 0xc1, 0xff, 0x0f, 0, 0];
/// The test is among the first bytes of the function.
const BEGINNING: usize = 64;

/// Traps by their address, with the word that was there.
#[derive(Debug, Default)]
pub struct Traps {
    /// At the program's entry: there its libraries are in place.
    entry: BTreeMap<u64, c_long>,
    /// Where the library refuses.
    refusals: BTreeMap<u64, c_long>,
    /// Calls that it refused: the thread, and the arguments of `mmap`.
    pub seen: Vec<(i32, [u64; 6])>,
}

impl Traps {
    /// A process has executed a program, and stands still.
    pub fn executed(&mut self, pid: i32) {
        if cfg!(not(target_arch = "x86_64")) {
            return;
        }
        let Ok(auxiliary) = fs::read(format!("/proc/{pid}/auxv")) else {
            return;
        };
        let words: Vec<u64> = auxiliary
            .chunks_exact(8)
            .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
            .collect();
        let value = |key| {
            let mut pairs = words.chunks_exact(2);
            pairs
                .find(|pair| pair.first() == Some(&key))
                .and_then(|pair| pair.get(1).copied())
        };
        match (value(AT_BASE).unwrap_or(0), value(AT_ENTRY)) {
            // Without an interpreter all is in place already.
            (0, _) => self.lay(pid),
            (_, Some(entry)) => {
                if let Some(word) = put(pid, entry) {
                    self.entry.insert(entry, word);
                }
            }
            _ => {}
        }
    }

    /// Lays a trap into each library that the process has.
    fn lay(&mut self, pid: i32) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let mut known: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for line in maps.lines() {
            let Some((start, end, offset, path)) = executable(line) else {
                continue;
            };
            let name = path.rsplit('/').next().unwrap_or(path);
            let library = name.starts_with("libc.so") || name.starts_with("libc-");
            if !library && Path::new(path) != program {
                continue;
            }
            let places = known.entry(path.to_owned()).or_insert_with(|| {
                fs::read(path).map_or_else(|_| Vec::new(), |bytes| places(&bytes))
            });
            for place in places
                .iter()
                .filter(|place| offset <= **place && **place - offset < end - start)
            {
                let address = start + (place - offset);
                if self.refusals.contains_key(&address) {
                    continue;
                }
                if let Some(word) = put(pid, address) {
                    self.refusals.insert(address, word);
                }
            }
        }
    }

    /// Whether a thread has just executed one of these, and is about to be told.
    pub fn is_about_to_meet(&self, pid: i32) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let Ok(registers) = ptrace::getregs(Pid::from_raw(pid)) {
            let at = registers.rip.wrapping_sub(1);
            return self.entry.contains_key(&at) || self.refusals.contains_key(&at);
        }
        let _ = pid;
        false
    }

    /// Takes those away that a process still has; it need not stand still.
    pub fn remove(&self, pid: i32) {
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"));
        // It has ended: it has none.
        let Ok(memory) = memory else { return };
        for (address, word) in self.entry.iter().chain(&self.refusals) {
            let mut now = [0; 8];
            let was = word.to_ne_bytes();
            // Another process's address may be anything here.
            let ours = memory.read_exact_at(&mut now, *address).is_ok()
                && now.first() == Some(&0xcc)
                && now.get(1..) == was.get(1..);
            if let (true, Some(first)) = (ours, was.get(..1)) {
                // It has ended meanwhile.
                let _ = memory.write_all_at(first, *address);
            }
        }
    }

    /// A thread has met a trap; whether it was one of these. Each springs once.
    #[cfg(target_arch = "x86_64")]
    pub fn met(&mut self, pid: i32) -> bool {
        let thread = Pid::from_raw(pid);
        let Ok(mut registers) = ptrace::getregs(thread) else {
            return false;
        };
        let at = registers.rip.wrapping_sub(1);
        let (word, entry) = match (self.entry.get(&at), self.refusals.get(&at)) {
            (Some(word), _) => (*word, true),
            (None, Some(word)) => (*word, false),
            (None, None) => return false,
        };
        registers.rip = at;
        let restored = take(pid, at, word) && ptrace::setregs(thread, registers).is_ok();
        if entry {
            self.lay(pid);
        } else {
            // As the function got them.
            let arguments = [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.rcx,
                registers.r8,
                registers.r9,
            ];
            self.seen.push((pid, arguments));
        }
        restored
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn met(&mut self, _: i32) -> bool {
        false
    }
}

/// Puts a trap there; the word that was there. A place that has one already is left alone.
fn put(pid: i32, address: u64) -> Option<c_long> {
    let thread = Pid::from_raw(pid);
    let place = address as ptrace::AddressType;
    let word = ptrace::read(thread, place).ok()?;
    if word & 0xff == TRAP {
        return None;
    }
    ptrace::write(thread, place, (word & !0xff) | TRAP).ok()?;
    Some(word)
}

/// Puts back what was there.
fn take(pid: i32, address: u64, word: c_long) -> bool {
    let (thread, place) = (Pid::from_raw(pid), address as ptrace::AddressType);
    // Its neighbours may have changed since then.
    ptrace::read(thread, place)
        .and_then(|now| ptrace::write(thread, place, (now & !0xff) | (word & 0xff)))
        .is_ok()
}

/// `7f00-8000 r-xp 00028000 fe:00 12   /usr/lib/libc.so.6`
fn executable(line: &str) -> Option<(u64, u64, u64, &str)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let offset = words.next()?;
    let path = words.nth(2)?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    permissions
        .contains('x')
        .then_some((number(start)?, number(end)?, number(offset)?, path))
}

/// Where in the file `mmap` turns to the error for an offset within a page.
fn places(bytes: &[u8]) -> Vec<u64> {
    let Ok(file) = object::File::parse(bytes) else {
        return Vec::new();
    };
    let mut found: Vec<u64> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.is_definition())
        .filter(|symbol| matches!(symbol.name(), Ok("mmap" | "mmap64" | "__mmap" | "__mmap64")))
        .filter_map(|symbol| {
            let begin = file.segments().find_map(|segment| {
                let within = symbol.address().checked_sub(segment.address())?;
                let (offset, length) = segment.file_range();
                (within < length).then(|| offset + within)
            })?;
            refusal(bytes, usize::try_from(begin).ok()?)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The target of the jump behind the test of the offset.
fn refusal(bytes: &[u8], begin: usize) -> Option<u64> {
    let code = bytes.get(begin..begin + BEGINNING)?;
    let test = code.windows(TEST.len()).position(|part| part == TEST)?;
    let after = test + TEST.len();
    let (end, jump) = match code.get(after..after + 6)? {
        // jne, near and short
        [0x0f, 0x85, distance @ ..] => (
            after + 6,
            i64::from(i32::from_le_bytes(distance.try_into().ok()?)),
        ),
        [0x75, distance, ..] => (after + 2, i64::from(i8::from_le_bytes([*distance]))),
        _ => return None,
    };
    u64::try_from(i64::try_from(begin + end).ok()? + jump).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jump_behind_the_test_is_followed() {
        let mut bytes = vec![0x90; 100];
        bytes[4..11].copy_from_slice(&TEST);
        bytes[11..13].copy_from_slice(&[0x75, 0x20]);
        assert_eq!(refusal(&bytes, 0), Some(13 + 0x20));
        bytes[11..17].copy_from_slice(&[0x0f, 0x85, 0x00, 0x01, 0x00, 0x00]);
        assert_eq!(refusal(&bytes, 0), Some(17 + 0x100));
        assert_eq!(refusal(&[0x90; 100], 0), None);
        assert!(places(b"no ELF file").is_empty());
    }

    #[test]
    fn lines_of_code_are_read() {
        let line = "7f00-8000 r-xp 00028000 fe:00 12   /usr/lib/libc.so.6";
        assert_eq!(
            executable(line),
            Some((0x7f00, 0x8000, 0x28000, "/usr/lib/libc.so.6"))
        );
        assert_eq!(executable("7f00-8000 r--p 00028000 fe:00 12 /a"), None);
    }
}
