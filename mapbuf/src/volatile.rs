//! Copies from and to memory that others write.
//!
//! Nothing here forms a reference to such memory. Memory that is not cached is accessed by volatile reads and writes of a
//! fixed width. Cached memory has no width to keep, and on x86-64 it is copied as fast as the machine can: by inline
//! assembly, which moves short lengths itself and calls the C library's `memcpy` or `memset` for more.
//!
//! # Why the assembly is sound
//!
//! An access by a Rust pointer to memory that another thread or process writes is a data race, which is undefined, and so
//! is `ptr::copy_nonoverlapping`, or a `memcpy` that the compiler sees. An assembly block makes no Rust access. The compiler
//! must assume that it does whatever a foreign function can do to the memory it has pointers to, knows neither what it
//! reads nor how often, and so can derive nothing from it (no block here is `pure`, `nomem` or `readonly`). What the
//! instructions do is up to the processor, where a load that races with a store yields the bytes from before it or from
//! after it, and nothing worse. `memcpy` may load or store a byte more than once. That is harmless: a byte that is stored
//! twice gets the same value twice, since the source of a copy *into* shared memory is private; and of a byte that is loaded
//! twice, one of the values stays, in private memory that does not change after the copy.

use mapbuf_abi::{Cache, Kind};

/// How memory is accessed by copies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Copies {
    /// Cached memory: in any way.
    Cached,
    /// Memory that is not cached: 8 bytes where the address allows, single bytes at the edges.
    Words,
    /// A device: whole, aligned words of this many bytes, which are 1, 2, 4 or 8.
    Device(usize),
}

impl Copies {
    /// How memory of this kind and cache mode is accessed; `width` says how many bits an access has, if that was declared.
    pub(crate) fn of(
        kind: Option<Kind>,
        cache: Option<Cache>,
        width: impl FnOnce() -> Option<u32>,
    ) -> Self {
        match (cache, kind) {
            // It may be a device's.
            (_, Some(Kind::Foreign)) => Self::Words,
            (Some(Cache::Cached), Some(_)) => Self::Cached,
            (Some(Cache::Uncached), Some(Kind::Region)) => Self::Device(match width() {
                Some(8) => 1,
                Some(16) => 2,
                Some(64) => 8,
                // The driver's default too.
                _ => 4,
            }),
            _ => Self::Words,
        }
    }

    /// Whether this range can be written: whole words, for a device.
    pub(crate) const fn can_write(self, offset: usize, len: usize) -> bool {
        match self {
            Self::Cached | Self::Words => true,
            Self::Device(width) => offset % width == 0 && len % width == 0,
        }
    }
}

/// Copies bytes out of shared memory. A word of a device of which only a part is wanted is read as a whole, once.
///
/// # Safety
///
/// `from` must be valid for volatile reads of `to.len()` bytes, and of the whole words around them.
#[inline]
pub(crate) unsafe fn copy_out(from: *const u8, to: &mut [u8], copies: Copies) {
    match copies {
        // SAFETY: the caller vouches for `from`; `to` is a slice, which is nobody else's and so no part of it.
        Copies::Cached => unsafe { cached::copy(to.as_mut_ptr(), from, to.len()) },
        // SAFETY: by this function's contract.
        Copies::Words => unsafe { words::copy_out(from, to) },
        // SAFETY: by this function's contract.
        Copies::Device(width) => unsafe { device::copy_out(from, to, width) },
    }
}

/// Copies bytes into shared memory.
///
/// # Safety
///
/// `to` must be valid for volatile writes of `from.len()` bytes; for a device, both are multiples of its width.
#[inline]
pub(crate) unsafe fn copy_in(to: *mut u8, from: &[u8], copies: Copies) {
    match copies {
        // SAFETY: the caller vouches for `to`; `from` is a slice, which nobody writes and so is no part of it.
        Copies::Cached => unsafe { cached::copy(to, from.as_ptr(), from.len()) },
        // SAFETY: by this function's contract.
        Copies::Words => unsafe { words::copy_in(to, from) },
        // SAFETY: by this function's contract.
        Copies::Device(width) => unsafe { device::copy_in(to, from, width) },
    }
}

/// Sets bytes of shared memory.
///
/// # Safety
///
/// `to` must be valid for volatile writes of `len` bytes; for a device, both are multiples of its width.
#[inline]
pub(crate) unsafe fn fill(to: *mut u8, len: usize, byte: u8, copies: Copies) {
    match copies {
        // SAFETY: by this function's contract.
        Copies::Cached => unsafe { cached::fill(to, len, byte) },
        // SAFETY: by this function's contract.
        Copies::Words | Copies::Device(_) => unsafe { fill_blocks(to, len, byte, copies) },
    }
}

/// Sets bytes by copies of a block of them.
///
/// # Safety
///
/// As for [`fill`].
unsafe fn fill_blocks(to: *mut u8, len: usize, byte: u8, copies: Copies) {
    let block = [byte; 512];
    let mut done = 0;
    while done < len {
        let part = block.len().min(len - done);
        // SAFETY: the part lies within the `len` bytes that the caller vouches for; a block is a multiple of every width.
        unsafe { copy_in(to.wrapping_add(done), &block[..part], copies) };
        done += part;
    }
}

/// Memory without a width of its own: 8 bytes at a time where the address allows.
mod words {
    const WORD: usize = size_of::<u64>();

    /// # Safety
    ///
    /// `from` must be valid for volatile reads of `to.len()` bytes.
    pub(super) unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
        let (head, rest) = to.split_at_mut(bytes_to_alignment(from, to.len()));
        let mut at = from;
        for byte in head {
            // SAFETY: `at` lies within the bytes that the caller vouches for.
            *byte = unsafe { at.read_volatile() };
            at = at.wrapping_add(1);
        }
        let mut words = rest.chunks_exact_mut(WORD);
        for chunk in &mut words {
            // SAFETY: the word lies within the bytes that the caller vouches for, and `bytes_to_alignment` has brought
            // `at` to a multiple of a word.
            let word = unsafe { at.cast::<u64>().read_volatile() };
            chunk.copy_from_slice(&word.to_ne_bytes());
            at = at.wrapping_add(WORD);
        }
        for byte in words.into_remainder() {
            // SAFETY: `at` lies within the bytes that the caller vouches for.
            *byte = unsafe { at.read_volatile() };
            at = at.wrapping_add(1);
        }
    }

    /// # Safety
    ///
    /// `to` must be valid for volatile writes of `from.len()` bytes.
    pub(super) unsafe fn copy_in(to: *mut u8, from: &[u8]) {
        let (head, rest) = from.split_at(bytes_to_alignment(to, from.len()));
        let mut at = to;
        for byte in head {
            // SAFETY: `at` lies within the bytes that the caller vouches for.
            unsafe { at.write_volatile(*byte) };
            at = at.wrapping_add(1);
        }
        let words = rest.chunks_exact(WORD);
        let tail = words.remainder();
        for chunk in words {
            let mut word = [0; WORD];
            word.copy_from_slice(chunk);
            // SAFETY: the word lies within the bytes that the caller vouches for, and `bytes_to_alignment` has brought
            // `at` to a multiple of a word.
            unsafe { at.cast::<u64>().write_volatile(u64::from_ne_bytes(word)) };
            at = at.wrapping_add(WORD);
        }
        for byte in tail {
            // SAFETY: `at` lies within the bytes that the caller vouches for.
            unsafe { at.write_volatile(*byte) };
            at = at.wrapping_add(1);
        }
    }

    /// How many of `len` bytes lie before the first whole word at or after `at`.
    fn bytes_to_alignment(at: *const u8, len: usize) -> usize {
        (at.addr().wrapping_neg() % WORD).min(len)
    }
}

/// A device's memory: whole words of its width, each once, in order.
mod device {
    /// # Safety
    ///
    /// `from` must be valid for volatile reads of `to.len()` bytes, and of the whole words around them.
    pub(super) unsafe fn copy_out(from: *const u8, to: &mut [u8], width: usize) {
        let mut at = from;
        let mut rest = to;
        while !rest.is_empty() {
            let before = at.addr() % width;
            let (part, behind) = rest.split_at_mut((width - before).min(rest.len()));
            let word = at.wrapping_sub(before);
            // SAFETY: the word has bytes that the caller vouches for, and is aligned.
            let bytes = unsafe { read(word, width) };
            part.copy_from_slice(&bytes[before..before + part.len()]);
            at = at.wrapping_add(part.len());
            rest = behind;
        }
    }

    /// # Safety
    ///
    /// `to` must be valid for volatile writes of `from.len()` bytes, and both are multiples of `width`.
    pub(super) unsafe fn copy_in(to: *mut u8, from: &[u8], width: usize) {
        let mut at = to;
        for chunk in from.chunks_exact(width) {
            // SAFETY: the word lies within the bytes that the caller vouches for, and is aligned.
            unsafe { write(at, chunk) };
            at = at.wrapping_add(width);
        }
    }

    /// Reads one word, by one access.
    ///
    /// # Safety
    ///
    /// `at` must be valid for a volatile read of a word of `width` bytes, and a multiple of it.
    unsafe fn read(at: *const u8, width: usize) -> [u8; 8] {
        let mut bytes = [0; 8];
        match width {
            // SAFETY: by this function's contract.
            8 => bytes = unsafe { at.cast::<u64>().read_volatile() }.to_ne_bytes(),
            4 => {
                // SAFETY: by this function's contract.
                let word = unsafe { at.cast::<u32>().read_volatile() };
                bytes[..4].copy_from_slice(&word.to_ne_bytes());
            }
            2 => {
                // SAFETY: by this function's contract.
                let word = unsafe { at.cast::<u16>().read_volatile() };
                bytes[..2].copy_from_slice(&word.to_ne_bytes());
            }
            // SAFETY: by this function's contract.
            _ => bytes[0] = unsafe { at.read_volatile() },
        }
        bytes
    }

    /// Writes one word, by one access.
    ///
    /// # Safety
    ///
    /// `at` must be valid for a volatile write of a word of `word.len()` bytes, and a multiple of it.
    unsafe fn write(at: *mut u8, word: &[u8]) {
        match *word {
            [a, b, c, d, e, f, g, h] => {
                let word = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
                // SAFETY: by this function's contract.
                unsafe { at.cast::<u64>().write_volatile(word) };
            }
            [a, b, c, d] => {
                let word = u32::from_ne_bytes([a, b, c, d]);
                // SAFETY: by this function's contract.
                unsafe { at.cast::<u32>().write_volatile(word) };
            }
            // SAFETY: by this function's contract.
            [a, b] => unsafe {
                at.cast::<u16>().write_volatile(u16::from_ne_bytes([a, b]));
            },
            // SAFETY: by this function's contract.
            [a] => unsafe { at.write_volatile(a) },
            _ => {}
        }
    }
}

/// Cached memory, where there is no assembly for it: as memory without a width.
#[cfg(any(not(target_arch = "x86_64"), miri))]
mod cached {
    /// # Safety
    ///
    /// `from` must be valid for volatile reads and `to` for volatile writes of `len` bytes; one of the two is private, and
    /// they do not overlap.
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        // Both sides may be shared as far as this function can know, so neither is made a slice.
        let mut buffer = [0; 512];
        let mut done = 0;
        while done < len {
            let part = &mut buffer[..512.min(len - done)];
            // SAFETY: the part lies within the `len` bytes that the caller vouches for.
            unsafe { super::words::copy_out(from.wrapping_add(done), part) };
            // SAFETY: the part lies within the `len` bytes that the caller vouches for.
            unsafe { super::words::copy_in(to.wrapping_add(done), part) };
            done += part.len();
        }
    }

    /// # Safety
    ///
    /// `to` must be valid for volatile writes of `len` bytes.
    pub(super) unsafe fn fill(to: *mut u8, len: usize, byte: u8) {
        // SAFETY: by this function's contract.
        unsafe { super::fill_blocks(to, len, byte, super::Copies::Words) };
    }
}

/// Cached memory, by inline assembly. The documentation of the file above says why it is sound.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod cached {
    use std::{
        arch::asm,
        ffi::c_void,
        sync::atomic::{AtomicU8, Ordering},
    };

    unsafe extern "C" {
        fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void;
        fn memset(to: *mut c_void, byte: i32, len: usize) -> *mut c_void;
    }

    /// Lengths up to this are moved here; a call would take longer than they do.
    const SHORT: usize = 128;
    /// The same, with the registers of AVX2.
    const SHORT_AVX2: usize = 256;

    /// Whether there is AVX2: not known yet, no, or yes.
    static AVX2: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;

    /// Whether there is AVX2, as far as it was looked up: a look would be a call, for which even those who do not make it
    /// would save registers.
    #[inline(always)]
    fn avx2() -> bool {
        AVX2.load(Ordering::Relaxed) == YES
    }

    /// Looks it up.
    fn look_up() -> bool {
        if AVX2.load(Ordering::Relaxed) == UNKNOWN {
            let found = std::arch::is_x86_feature_detected!("avx2");
            AVX2.store(if found { YES } else { NO }, Ordering::Relaxed);
        }
        avx2()
    }

    /// Copies bytes. Short lengths are moved as two halves that may overlap, so that each length takes few instructions.
    ///
    /// # Safety
    ///
    /// `from` must be mapped for reading and `to` for writing for `len` bytes, and they do not overlap.
    #[inline(always)]
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        if len > SHORT_AVX2 {
            // SAFETY: by this function's contract.
            unsafe { copy_long(to, from, len) }
        } else if len > 64 {
            if avx2() {
                // SAFETY: by this function's contract; there is AVX2, and the length is one of its.
                unsafe { copy_avx2(to, from, len) }
            } else {
                // SAFETY: by this function's contract; the length is one of its.
                unsafe { copy_other(to, from, len) }
            }
        } else if len > 32 {
            // SAFETY: the first 32 bytes and the last 32, all of which lie within the `len` of the caller.
            unsafe {
                asm!("movups {a}, [{f}]", "movups {b}, [{f} + 16]",
                     "movups {c}, [{f} + {n} - 32]", "movups {d}, [{f} + {n} - 16]",
                     "movups [{t}], {a}", "movups [{t} + 16], {b}",
                     "movups [{t} + {n} - 32], {c}", "movups [{t} + {n} - 16], {d}",
                     a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                     f = in(reg) from, t = in(reg) to, n = in(reg) len, options(nostack, preserves_flags));
            }
        } else if len >= 16 {
            // SAFETY: the first 16 bytes and the last 16, all of which lie within the `len` of the caller.
            unsafe {
                asm!("movups {a}, [{f}]", "movups {b}, [{f} + {n} - 16]",
                     "movups [{t}], {a}", "movups [{t} + {n} - 16], {b}",
                     a = out(xmm_reg) _, b = out(xmm_reg) _, f = in(reg) from, t = in(reg) to, n = in(reg) len,
                     options(nostack, preserves_flags));
            }
        } else if len >= 8 {
            // SAFETY: the first eight bytes and the last eight, all of which lie within the `len` of the caller.
            unsafe {
                asm!("mov {a}, [{f}]", "mov {b}, [{f} + {n} - 8]", "mov [{t}], {a}", "mov [{t} + {n} - 8], {b}",
                     a = out(reg) _, b = out(reg) _, f = in(reg) from, t = in(reg) to, n = in(reg) len,
                     options(nostack, preserves_flags));
            }
        } else if len >= 4 {
            // SAFETY: the first four bytes and the last four, all of which lie within the `len` of the caller.
            unsafe {
                asm!("mov {a:e}, [{f}]", "mov {b:e}, [{f} + {n} - 4]", "mov [{t}], {a:e}", "mov [{t} + {n} - 4], {b:e}",
                     a = out(reg) _, b = out(reg) _, f = in(reg) from, t = in(reg) to, n = in(reg) len,
                     options(nostack, preserves_flags));
            }
        } else if len >= 2 {
            // SAFETY: the first two bytes and the last two, all of which lie within the `len` of the caller.
            unsafe {
                asm!("mov {a:x}, [{f}]", "mov {b:x}, [{f} + {n} - 2]", "mov [{t}], {a:x}", "mov [{t} + {n} - 2], {b:x}",
                     a = out(reg) _, b = out(reg) _, f = in(reg) from, t = in(reg) to, n = in(reg) len,
                     options(nostack, preserves_flags));
            }
        } else if len == 1 {
            // SAFETY: one byte, which the caller vouches for.
            unsafe {
                asm!("mov {a}, [{f}]", "mov [{t}], {a}",
                     a = out(reg_byte) _, f = in(reg) from, t = in(reg) to, options(nostack, preserves_flags));
            }
        }
    }

    /// Copies 65 to 256 bytes where there is no AVX2, or it was not looked up.
    ///
    /// # Safety
    ///
    /// As for [`copy`]; `len` is in that range.
    #[inline(never)]
    unsafe fn copy_other(to: *mut u8, from: *const u8, len: usize) {
        if look_up() {
            // SAFETY: by this function's contract; there is AVX2.
            unsafe { copy_avx2(to, from, len) }
        } else if len > SHORT {
            // SAFETY: by this function's contract.
            unsafe { copy_long(to, from, len) }
        } else {
            // SAFETY: the first 64 bytes and the last 64, all of which lie within the `len` of the caller.
            unsafe {
                asm!("movups {a}, [{f}]", "movups {b}, [{f} + 16]", "movups {c}, [{f} + 32]", "movups {d}, [{f} + 48]",
                     "movups {e}, [{f} + {n} - 64]", "movups {g}, [{f} + {n} - 48]",
                     "movups {h}, [{f} + {n} - 32]", "movups {i}, [{f} + {n} - 16]",
                     "movups [{t}], {a}", "movups [{t} + 16], {b}", "movups [{t} + 32], {c}", "movups [{t} + 48], {d}",
                     "movups [{t} + {n} - 64], {e}", "movups [{t} + {n} - 48], {g}",
                     "movups [{t} + {n} - 32], {h}", "movups [{t} + {n} - 16], {i}",
                     a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                     e = out(xmm_reg) _, g = out(xmm_reg) _, h = out(xmm_reg) _, i = out(xmm_reg) _,
                     f = in(reg) from, t = in(reg) to, n = in(reg) len, options(nostack, preserves_flags));
            }
        }
    }

    /// Copies 65 to 256 bytes by registers of 32 bytes.
    ///
    /// All vector registers are given up, as `vzeroupper` clears the upper halves of those that AVX has.
    ///
    /// # Safety
    ///
    /// As for [`copy`]; `len` is in that range, and there is AVX2.
    #[inline(always)]
    unsafe fn copy_avx2(to: *mut u8, from: *const u8, len: usize) {
        if len > 128 {
            // SAFETY: the first 128 bytes and the last 128, all of which lie within the `len` of the caller.
            unsafe {
                asm!("vmovups ymm0, [{f}]", "vmovups ymm1, [{f} + 32]", "vmovups ymm2, [{f} + 64]", "vmovups ymm3, [{f} + 96]",
                     "vmovups ymm4, [{f} + {n} - 128]", "vmovups ymm5, [{f} + {n} - 96]",
                     "vmovups ymm6, [{f} + {n} - 64]", "vmovups ymm7, [{f} + {n} - 32]",
                     "vmovups [{t}], ymm0", "vmovups [{t} + 32], ymm1", "vmovups [{t} + 64], ymm2", "vmovups [{t} + 96], ymm3",
                     "vmovups [{t} + {n} - 128], ymm4", "vmovups [{t} + {n} - 96], ymm5",
                     "vmovups [{t} + {n} - 64], ymm6", "vmovups [{t} + {n} - 32], ymm7", "vzeroupper",
                     f = in(reg) from, t = in(reg) to, n = in(reg) len,
                     out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
                     out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _,
                     out("xmm13") _, out("xmm14") _, out("xmm15") _,
                     options(nostack, preserves_flags));
            }
        } else {
            // SAFETY: the first 64 bytes and the last 64, all of which lie within the `len` of the caller.
            unsafe {
                asm!("vmovups ymm0, [{f}]", "vmovups ymm1, [{f} + 32]",
                     "vmovups ymm2, [{f} + {n} - 64]", "vmovups ymm3, [{f} + {n} - 32]",
                     "vmovups [{t}], ymm0", "vmovups [{t} + 32], ymm1",
                     "vmovups [{t} + {n} - 64], ymm2", "vmovups [{t} + {n} - 32], ymm3", "vzeroupper",
                     f = in(reg) from, t = in(reg) to, n = in(reg) len,
                     out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
                     out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _,
                     out("xmm13") _, out("xmm14") _, out("xmm15") _,
                     options(nostack, preserves_flags));
            }
        }
    }

    /// Copies many bytes.
    ///
    /// # Safety
    ///
    /// As for [`copy`].
    #[inline(never)]
    unsafe fn copy_long(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: `memcpy` of the C library, by its calling convention: the stack is aligned for a call, as the block does not
        // say `nostack`, and everything that it may change is given up. It accesses the `len` bytes of the caller and
        // nothing else.
        unsafe {
            asm!("call {memcpy}", memcpy = in(reg) memcpy as *const c_void,
                 in("rdi") to, in("rsi") from, in("rdx") len, clobber_abi("C"));
        }
    }

    /// Sets bytes, in the way of [`copy`].
    ///
    /// # Safety
    ///
    /// `to` must be mapped for writing for `len` bytes.
    #[inline(always)]
    pub(super) unsafe fn fill(to: *mut u8, len: usize, byte: u8) {
        let word = u64::from(byte) * 0x0101_0101_0101_0101;
        if len > SHORT_AVX2 {
            // SAFETY: by this function's contract.
            unsafe { fill_long(to, len, byte) }
        } else if len > 32 {
            if avx2() {
                // SAFETY: by this function's contract; there is AVX2, and the length is one of its.
                unsafe { fill_avx2(to, len, byte) }
            } else {
                // SAFETY: by this function's contract; the length is one of its.
                unsafe { fill_other(to, len, byte) }
            }
        } else if len >= 16 {
            // SAFETY: the first 16 bytes and the last 16, all of which lie within the `len` of the caller.
            unsafe {
                asm!("movq {a}, {w}", "punpcklqdq {a}, {a}", "movups [{t}], {a}", "movups [{t} + {n} - 16], {a}",
                     a = out(xmm_reg) _, w = in(reg) word, t = in(reg) to, n = in(reg) len,
                     options(nostack, preserves_flags));
            }
        } else if len >= 8 {
            // SAFETY: the first eight bytes and the last eight, all of which lie within the `len` of the caller.
            unsafe {
                asm!("mov [{t}], {a}", "mov [{t} + {n} - 8], {a}",
                     a = in(reg) word, t = in(reg) to, n = in(reg) len, options(nostack, preserves_flags));
            }
        } else if len >= 4 {
            // SAFETY: the first four bytes and the last four, all of which lie within the `len` of the caller.
            unsafe {
                asm!("mov [{t}], {a:e}", "mov [{t} + {n} - 4], {a:e}",
                     a = in(reg) word, t = in(reg) to, n = in(reg) len, options(nostack, preserves_flags));
            }
        } else if len >= 2 {
            // SAFETY: the first two bytes and the last two, all of which lie within the `len` of the caller.
            unsafe {
                asm!("mov [{t}], {a:x}", "mov [{t} + {n} - 2], {a:x}",
                     a = in(reg) word, t = in(reg) to, n = in(reg) len, options(nostack, preserves_flags));
            }
        } else if len == 1 {
            // SAFETY: one byte, which the caller vouches for.
            unsafe {
                asm!("mov [{t}], {a}", a = in(reg_byte) byte, t = in(reg) to, options(nostack, preserves_flags));
            }
        }
    }

    /// Sets 33 to 256 bytes where there is no AVX2, or it was not looked up.
    ///
    /// # Safety
    ///
    /// As for [`fill`]; `len` is in that range.
    #[inline(never)]
    unsafe fn fill_other(to: *mut u8, len: usize, byte: u8) {
        let word = u64::from(byte) * 0x0101_0101_0101_0101;
        if look_up() {
            // SAFETY: by this function's contract; there is AVX2.
            unsafe { fill_avx2(to, len, byte) }
        } else if len > SHORT {
            // SAFETY: by this function's contract.
            unsafe { fill_long(to, len, byte) }
        } else if len > 64 {
            // SAFETY: the first 64 bytes and the last 64, all of which lie within the `len` of the caller.
            unsafe {
                asm!("movq {a}, {w}", "punpcklqdq {a}, {a}", "movups [{t}], {a}", "movups [{t} + 16], {a}",
                     "movups [{t} + 32], {a}", "movups [{t} + 48], {a}",
                     "movups [{t} + {n} - 64], {a}", "movups [{t} + {n} - 48], {a}",
                     "movups [{t} + {n} - 32], {a}", "movups [{t} + {n} - 16], {a}",
                     a = out(xmm_reg) _, w = in(reg) word, t = in(reg) to, n = in(reg) len,
                     options(nostack, preserves_flags));
            }
        } else {
            // SAFETY: the first 32 bytes and the last 32, all of which lie within the `len` of the caller.
            unsafe {
                asm!("movq {a}, {w}", "punpcklqdq {a}, {a}", "movups [{t}], {a}", "movups [{t} + 16], {a}",
                     "movups [{t} + {n} - 32], {a}", "movups [{t} + {n} - 16], {a}",
                     a = out(xmm_reg) _, w = in(reg) word, t = in(reg) to, n = in(reg) len,
                     options(nostack, preserves_flags));
            }
        }
    }

    /// Sets 33 to 256 bytes by registers of 32 bytes, in the way of [`copy_avx2`].
    ///
    /// # Safety
    ///
    /// As for [`fill`]; `len` is in that range, and there is AVX2.
    #[inline(always)]
    unsafe fn fill_avx2(to: *mut u8, len: usize, byte: u8) {
        if len <= 64 {
            // SAFETY: the first 32 bytes and the last 32, all of which lie within the `len` of the caller. Registers of 16 bytes
            // do here, and leave no upper halves to clear.
            unsafe {
                asm!("vmovd {a}, {w:e}", "vpbroadcastb {a}, {a}", "vmovups [{t}], {a}", "vmovups [{t} + 16], {a}",
                     "vmovups [{t} + {n} - 32], {a}", "vmovups [{t} + {n} - 16], {a}",
                     a = out(xmm_reg) _, w = in(reg) u32::from(byte), t = in(reg) to, n = in(reg) len,
                     options(nostack, preserves_flags));
            }
        } else if len <= 128 {
            // SAFETY: the first 64 bytes and the last 64, all of which lie within the `len` of the caller.
            unsafe {
                asm!("vmovd xmm0, {w:e}", "vpbroadcastb ymm0, xmm0", "vmovups [{t}], ymm0", "vmovups [{t} + 32], ymm0",
                     "vmovups [{t} + {n} - 64], ymm0", "vmovups [{t} + {n} - 32], ymm0", "vzeroupper",
                     w = in(reg) u32::from(byte), t = in(reg) to, n = in(reg) len,
                     out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
                     out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _,
                     out("xmm13") _, out("xmm14") _, out("xmm15") _,
                     options(nostack, preserves_flags));
            }
        } else {
            // SAFETY: the first 128 bytes and the last 128, all of which lie within the `len` of the caller.
            unsafe {
                asm!("vmovd xmm0, {w:e}", "vpbroadcastb ymm0, xmm0",
                     "vmovups [{t}], ymm0", "vmovups [{t} + 32], ymm0", "vmovups [{t} + 64], ymm0", "vmovups [{t} + 96], ymm0",
                     "vmovups [{t} + {n} - 128], ymm0", "vmovups [{t} + {n} - 96], ymm0",
                     "vmovups [{t} + {n} - 64], ymm0", "vmovups [{t} + {n} - 32], ymm0", "vzeroupper",
                     w = in(reg) u32::from(byte), t = in(reg) to, n = in(reg) len,
                     out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
                     out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _,
                     out("xmm13") _, out("xmm14") _, out("xmm15") _,
                     options(nostack, preserves_flags));
            }
        }
    }

    /// Sets many bytes.
    ///
    /// # Safety
    ///
    /// As for [`fill`].
    #[inline(never)]
    unsafe fn fill_long(to: *mut u8, len: usize, byte: u8) {
        // SAFETY: `memset` of the C library, by its calling convention, as in `copy_long`. It accesses the `len` bytes of the
        // caller and nothing else.
        unsafe {
            asm!("call {memset}", memset = in(reg) memset as *const c_void,
                 in("rdi") to, in("esi") u32::from(byte), in("rdx") len, clobber_abi("C"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each way that accepts this range for writing.
    fn ways(start: usize, len: usize) -> impl Iterator<Item = Copies> {
        let all = [1, 2, 4, 8].map(Copies::Device);
        [Copies::Cached, Copies::Words]
            .into_iter()
            .chain(all)
            .filter(move |way| way.can_write(start, len))
    }

    #[repr(align(8))]
    struct Memory([u8; 384]);

    fn check(start: usize, len: usize, seed: u8) {
        let bytes: Vec<u8> = (0..len).map(|n| seed.wrapping_add(n as u8)).collect();
        for way in ways(start, len) {
            let mut memory = Memory([0xee; 384]);
            let at = memory.0.as_mut_ptr().wrapping_add(start);
            // SAFETY: `at` is the start of `len` bytes of `memory`, and nobody else has them.
            unsafe { copy_in(at, &bytes, way) };
            let (before, rest) = memory.0.split_at(start);
            assert_eq!(&rest[..len], bytes.as_slice(), "{way:?}");
            assert!(
                before.iter().chain(&rest[len..]).all(|b| *b == 0xee),
                "{way:?}"
            );

            let at = memory.0.as_mut_ptr().wrapping_add(start);
            // SAFETY: `at` is the start of `len` bytes of `memory`, and nobody else has them.
            unsafe { fill(at, len, seed, way) };
            let (before, rest) = memory.0.split_at(start);
            assert!(rest[..len].iter().all(|b| *b == seed), "{way:?}");
            assert!(
                before.iter().chain(&rest[len..]).all(|b| *b == 0xee),
                "{way:?}"
            );
        }
        let mut memory = Memory([0xee; 384]);
        memory.0[start..start + len].copy_from_slice(&bytes);
        let widths = [1, 2, 4, 8].map(Copies::Device);
        for way in [Copies::Cached, Copies::Words].into_iter().chain(widths) {
            let mut back = vec![0; len];
            // SAFETY: the pointer is that of `len` bytes, whose words lie within `memory`, and nobody writes them.
            unsafe { copy_out(memory.0.as_ptr().wrapping_add(start), &mut back, way) };
            assert_eq!(back, bytes, "{way:?}");
        }
    }

    /// Every length up to what the assembly moves itself, and a little more, copies exactly those bytes, and touches no others.
    #[test]
    #[cfg_attr(miri, ignore = "the random ones do")]
    fn every_short_length_is_exact() {
        for len in 0..=300 {
            for start in [0, 1, 8, 13] {
                check(start, len, 7);
            }
        }
    }

    proptest! {
        /// Every start and length copies exactly those bytes, and touches no others.
        #[test]
        fn copies_are_exact(start in 0_usize..48, len in 0_usize..320, seed: u8) {
            check(start, len, seed);
        }
    }
}
