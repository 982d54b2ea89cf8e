//! How fast the library copies from and to cached memory, beside `memcpy`, `memset` and a loop over vector registers:
//! `cargo xtask copies` runs this and prints a table.
//!
//! The memory is the program's own. The library's code is taken in as a file, since its mappings are of the driver alone.

#[path = "copies/sizes.rs"]
mod sizes;
#[expect(
    dead_code,
    reason = "how the library chooses among them is not measured"
)]
#[path = "../src/volatile.rs"]
mod volatile;

use criterion::{measurement::WallTime, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use sizes::SIZES;
use std::{hint::black_box, ptr, slice, time::Duration};
use volatile::Copies;

const BYTE: u8 = 0x5a;
/// Bytes in a page; buffers begin at one, as mappings do.
const PAGE: usize = 4096;

/// Memory that begins at a page and was touched.
struct Pages(Vec<u8>);

impl Pages {
    fn new(len: usize) -> Self {
        Self(vec![1; len + PAGE])
    }

    fn bytes(&mut self, len: usize) -> &mut [u8] {
        let skip = self.0.as_ptr().align_offset(PAGE);
        &mut self.0[skip..skip + len]
    }
}

/// What is measured: a destination, a source, and the length of both.
type Way = fn(*mut u8, *const u8, usize);

const COPIES: [(&str, Way); 4] = [
    ("copy_in", |to, from, len| {
        // SAFETY: these are `len` bytes of memory that nobody else has.
        let from = unsafe { slice::from_raw_parts(from, len) };
        // SAFETY: these are as many bytes of memory that nobody else has.
        unsafe { volatile::copy_in(to, from, Copies::Cached) }
    }),
    ("copy_out", |to, from, len| {
        // SAFETY: these are `len` bytes of memory that nobody else has.
        let to = unsafe { slice::from_raw_parts_mut(to, len) };
        // SAFETY: these are as many bytes of memory that nobody else has.
        unsafe { volatile::copy_out(from, to, Copies::Cached) }
    }),
    ("memcpy", |to, from, len| {
        // SAFETY: both are `len` bytes of memory that nobody else has.
        unsafe { ptr::copy_nonoverlapping(from, to, len) }
    }),
    ("vector", |to, from, len| {
        // SAFETY: both are `len` bytes of memory that nobody else has, and `main` has looked for AVX.
        unsafe { vector::copy(to, from, len) }
    }),
];

const FILLS: [(&str, Way); 3] = [
    ("fill", |to, _, len| {
        // SAFETY: these are `len` bytes of memory that nobody else has.
        unsafe { volatile::fill(to, len, BYTE, Copies::Cached) }
    }),
    ("memset", |to, _, len| {
        // SAFETY: these are `len` bytes of memory that nobody else has.
        unsafe { ptr::write_bytes(to, BYTE, len) }
    }),
    ("vector", |to, _, len| {
        // SAFETY: these are `len` bytes of memory that nobody else has, and `main` has looked for AVX.
        unsafe { vector::fill(to, len, BYTE) }
    }),
];

/// Loops over vector registers of 32 bytes; the lengths are multiples of 64.
#[cfg(target_arch = "x86_64")]
mod vector {
    use std::arch::x86_64::{
        _mm256_loadu_si256, _mm256_set1_epi8, _mm256_storeu_si256, _mm256_zeroupper,
    };

    /// # Safety
    ///
    /// Both must be `len` bytes that nobody else has, and the processor must have AVX.
    #[target_feature(enable = "avx")]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "they have one reason")]
    pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        for at in (0..len).step_by(64) {
            // SAFETY: by this function's contract.
            unsafe {
                let first = _mm256_loadu_si256(from.add(at).cast());
                let second = _mm256_loadu_si256(from.add(at + 32).cast());
                _mm256_storeu_si256(to.add(at).cast(), first);
                _mm256_storeu_si256(to.add(at + 32).cast(), second);
            }
        }
        _mm256_zeroupper();
    }

    /// # Safety
    ///
    /// These must be `len` bytes that nobody else has, and the processor must have AVX.
    #[target_feature(enable = "avx")]
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "they have one reason")]
    pub unsafe fn fill(to: *mut u8, len: usize, byte: u8) {
        let word = _mm256_set1_epi8(byte as i8);
        for at in (0..len).step_by(64) {
            // SAFETY: by this function's contract.
            unsafe {
                _mm256_storeu_si256(to.add(at).cast(), word);
                _mm256_storeu_si256(to.add(at + 32).cast(), word);
            }
        }
        _mm256_zeroupper();
    }
}

/// No loop for other processors: the compiler's own.
#[cfg(not(target_arch = "x86_64"))]
mod vector {
    /// # Safety
    ///
    /// Both must be `len` bytes that nobody else has.
    pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: by this function's contract.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len) }
    }

    /// # Safety
    ///
    /// These must be `len` bytes that nobody else has.
    pub unsafe fn fill(to: *mut u8, len: usize, byte: u8) {
        // SAFETY: by this function's contract.
        unsafe { std::ptr::write_bytes(to, byte, len) }
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, ways: &[(&str, Way)]) {
    let largest = SIZES[SIZES.len() - 1];
    let (mut to, mut from) = (Pages::new(largest), Pages::new(largest));
    group
        .sample_size(40)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(500));
    for len in SIZES {
        group.throughput(Throughput::Bytes(len as u64));
        let (to, from) = (to.bytes(len).as_mut_ptr(), from.bytes(len).as_ptr());
        for &(name, way) in ways {
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                bencher.iter(|| way(black_box(to), black_box(from), black_box(len)));
            });
        }
    }
}

fn main() {
    #[cfg(target_arch = "x86_64")]
    assert!(is_x86_feature_detected!("avx"), "the loop needs AVX");
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion.benchmark_group("copy"), &COPIES);
    measure(&mut criterion.benchmark_group("fill"), &FILLS);
    criterion.final_summary();
}
