//! Nonsense, a great deal of it: nothing that a program passes may do more than be refused.
//!
//! The numbers are made from a seed that is in each failure's text, so that a failure can be had again.

use super::lifetime::comes_to;
use super::names::OpenToAll;
use crate::check::{elsewhere, Failure, Outcome};
use crate::proc::Parameter;
use crate::session::{named_path, Session, KINDS};
use crate::sys::{self, become_user, Map, PAGE};
use mapbuf_abi::{Reason, MAGIC, MAX_IDS};
use std::time::{Duration, Instant};

tests! { "fuzz":
    STOCK, 30: [
        nonsense_from_root_is_refused,
        nonsense_from_a_user_is_refused,
        nonsense_on_a_named_node_is_refused,
    ];
}

const LONG: Duration = Duration::from_millis(1500);

/// Numbers that look random (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    /// A number from near the edges of things.
    fn edge(&mut self) -> u64 {
        const EDGES: [u64; 14] = [
            0,
            1,
            2,
            7,
            PAGE as u64,
            MAX_IDS as u64,
            1 << 31,
            1 << 32,
            1 << 44,
            (1 << 44) - PAGE as u64,
            1 << 63,
            u64::MAX,
            u64::MAX - PAGE as u64 + 1,
            i64::MAX as u64,
        ];
        let edge = EDGES[self.below(EDGES.len())];
        match self.below(4) {
            0 => edge.wrapping_add(self.next() % 5),
            1 => edge.wrapping_sub(self.next() % 5),
            2 => edge,
            _ => self.next() >> self.below(64),
        }
    }
}

/// One nonsensical ioctl; it may come out well.
fn call(session: &Session, numbers: &mut Numbers, offsets: &mut Vec<u64>) -> Result<(), String> {
    let nr = numbers.below(15) as u32;
    let mut bytes = vec![0; 8 * (1 + numbers.below(24))];
    for word in bytes.chunks_mut(4) {
        let value = match numbers.below(6) {
            0..=2 => 0,
            3 => 1 + numbers.below(4) as u32,
            4 => numbers.edge() as u32,
            _ => numbers.next() as u32,
        };
        word.copy_from_slice(&value.to_ne_bytes());
    }
    // Most have a size that lets them through, and no flags.
    const SIZES: [u32; 14] = [80, 64, 16, 136, 32, 32, 32, 16, 64, 88, 72, 32, 40, 160];
    if numbers.below(8) > 0 {
        let size = SIZES.get(nr as usize).copied().unwrap_or(64);
        bytes.resize(bytes.len().max(size as usize), 0);
        bytes[..4].copy_from_slice(&size.to_ne_bytes());
        if numbers.below(8) > 0 {
            bytes[4..8].fill(0);
        }
        match nr {
            // ALLOC: mostly of something that can be had.
            1 if numbers.below(4) > 0 => {
                bytes[8..16].copy_from_slice(&(1 + numbers.next() % (1 << 18)).to_ne_bytes());
                bytes[16..20].copy_from_slice(&(1 + numbers.below(4) as u32).to_ne_bytes());
                bytes[20..28].copy_from_slice(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
                bytes[28..32].copy_from_slice(&(numbers.below(20) as u32).to_ne_bytes());
                bytes[40..64].fill(0);
            }
            // Others: mostly about an id that there may be.
            2..=7 | 9 => {
                bytes[8..12].copy_from_slice(&(numbers.below(20) as u32).to_ne_bytes());
            }
            _ => {}
        }
        if matches!(nr, 9 | 10) && numbers.below(4) > 0 {
            let at = if nr == 9 { 24 } else { 8 };
            bytes[at..at + 64].fill(0);
            bytes[at..at + 5].copy_from_slice(b"fuzz-");
            bytes[at + 5] = b'0' + numbers.below(3) as u8;
        }
    }
    let number = 3 << 30 | (numbers.next() as u32 & 0x3fff) << 16 | MAGIC << 8 | nr;
    match sys::ioctl_bytes(session, number, &mut bytes) {
        Ok(_) if nr == 7 && bytes.len() >= 16 => {
            let fd = i32::from_ne_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
            drop(sys::own(fd));
        }
        Ok(_) if nr == 1 && bytes.len() >= 40 => {
            let mut offset = [0; 8];
            offset.copy_from_slice(&bytes[32..40]);
            offsets.push(u64::from_ne_bytes(offset));
        }
        Ok(_) => {}
        Err(errno) => {
            let said = session.last_error().map_err(|errno| errno.to_string())?;
            let reason = Reason::from_number(said.reason);
            let Some(reason) = reason else {
                return Err(format!(
                    "ioctl {nr}: {errno}, with the unknown reason {}",
                    said.reason
                ));
            };
            if reason == Reason::KernelRefused || reason.errno() != errno.0 {
                return Err(format!("ioctl {nr}: {errno}, and the reason is {reason:?}"));
            }
        }
    }
    Ok(())
}

/// One nonsensical use of the file; it may come out well.
fn use_file(session: &Session, numbers: &mut Numbers, offsets: &[u64]) {
    let known = match offsets.len() {
        0 => 0,
        count => offsets[numbers.below(count)],
    };
    let offset = match numbers.below(3) {
        0 => numbers.edge(),
        1 => (numbers.below(24) * PAGE) as u64,
        _ => known.wrapping_add((numbers.below(70) * PAGE) as u64),
    };
    let mut bytes = vec![0x5a; numbers.below(3 * PAGE)];
    match numbers.below(6) {
        // What comes out is not asked about: only what is left, and what the kernel's log says.
        0 => drop(session.pread(&mut bytes, offset)),
        1 => drop(session.pwrite(&bytes, offset)),
        2 => drop(session.seek(numbers.edge() as i64, numbers.below(6) as i32)),
        _ => {
            let flags = [sys::SHARED, sys::PRIVATE][numbers.below(2)]
                | [0, 0, libc::MAP_POPULATE, libc::MAP_LOCKED][numbers.below(4)];
            let len = 1 + numbers.below(80 * PAGE);
            let prot = numbers.below(8) as i32;
            let Ok(map) = Map::new(session, len, prot, flags, offset & !(PAGE as u64 - 1)) else {
                return;
            };
            if prot & sys::READ != 0 {
                map.u64(0);
            }
            if prot & sys::WRITE != 0 {
                map.set_u64(map.len - 8, 1);
            }
            let _ = map.advise(0, map.len, numbers.below(26) as i32);
            let _ = map.protect(numbers.below(8) as i32);
        }
    }
}

fn nonsense(session: &Session, seed: u64) -> Outcome {
    let mut numbers = Numbers(seed);
    let mut offsets = Vec::new();
    let start = Instant::now();
    let mut calls = 0_u64;
    // Longer where the machine is slow.
    while start.elapsed() < LONG || calls < 100 {
        if let Err(why) = call(session, &mut numbers, &mut offsets) {
            return Err(Failure::new(format!("seed {seed:#x}, call {calls}: {why}")));
        }
        use_file(session, &mut numbers, &offsets);
        calls += 1;
    }
    Ok(())
}

fn clean_up() {
    let Ok(session) = Session::open() else { return };
    for number in 0..3 {
        let name = format!("fuzz-{number}");
        if named_path(&name).exists() {
            // The runner says it if one is left.
            let _ = session.unname(&name);
        }
    }
}

fn nonsense_from_root_is_refused() -> Outcome {
    let _limit = Parameter::set("max_bytes", 16 << 20)?;
    let mut result = Ok(());
    for seed in [0x1234_5678, 0x9abc_def0_1111] {
        let session = Session::open()?;
        result = result.and(nonsense(&session, seed));
    }
    clean_up();
    result?;
    comes_to(&Session::open()?, 0, 0)
}

fn nonsense_from_a_user_is_refused() -> Outcome {
    let _limit = Parameter::set("max_bytes", 16 << 20)?;
    let _open = OpenToAll::new()?;
    let result = elsewhere(|| {
        become_user(1000, 1000)?;
        nonsense(&Session::open()?, 0x7777_0001)
    });
    clean_up();
    result?;
    comes_to(&Session::open()?, 0, 0)
}

fn nonsense_on_a_named_node_is_refused() -> Outcome {
    let session = Session::open()?;
    let mut result = Ok(());
    for (seed, kind) in (0x3333..).zip(KINDS) {
        let buffer = session.alloc(kind, 20 * PAGE)?;
        session.name(buffer.id, "nonsense", 0o600)?;
        for write in [true, false] {
            if result.is_ok() {
                result = Session::open_named("nonsense", write)
                    .map_err(Failure::from)
                    .and_then(|node| nonsense_shortly(&node, seed));
            }
        }
        session.unname("nonsense")?;
        session.free(buffer.id)?;
    }
    result
}

fn nonsense_shortly(node: &Session, seed: u64) -> Outcome {
    let mut numbers = Numbers(seed);
    for number in 0..400 {
        if let Err(why) = call(node, &mut numbers, &mut Vec::new()) {
            return Err(Failure::new(format!(
                "seed {seed:#x}, call {number}: {why}"
            )));
        }
        use_file(node, &mut numbers, &[0]);
    }
    Ok(())
}
