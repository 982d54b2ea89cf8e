// SPDX-License-Identifier: GPL-2.0

//! Physical ranges that somebody reserved for us, and the kernel's own view of them.

use super::cache::Cache;
use super::{
    backing::Backing,
    bytes::Bytes,
    frames::{
        Attributes,
        Frames,
        PageRef, //
    },
    helpers::*,
    lease::Hold,
    task, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    io::resource::{
        Flags,
        Region,
        Resource, //
    },
    page::PAGE_SIZE,
    prelude::*,
    str::CString, //
};

/// Why a range cannot be claimed.
pub enum ClaimError {
    /// A part of it is System RAM.
    IsRam,
    /// Another driver has claimed a part of it.
    Taken,
}

/// A claim on a physical range, as `/proc/iomem` shows it.
pub struct Claim(Region);

impl Claim {
    /// Claims a range of whole pages.
    pub fn new(start: u64, bytes: u64, name: CString) -> Result<Self, ClaimError> {
        // SAFETY: Any range can be asked about.
        if unsafe { kmap_helper_range_is_ram(start, bytes) } {
            return Err(ClaimError::IsRam);
        }
        // SAFETY: `Resource` is transparent over `struct resource`, and the root of the tree is always there.
        let root = unsafe { &*(&raw mut bindings::iomem_resource).cast::<Resource>() };
        root.request_region(start, bytes, name, Flags::IORESOURCE_MEM)
            .map(Self)
            .ok_or(ClaimError::Taken)
    }

    fn start(&self) -> u64 {
        self.0.start()
    }

    fn bytes(&self) -> u64 {
        self.0.size()
    }

    /// How many pages.
    pub fn pages(&self) -> usize {
        usize::try_from(self.bytes() / PAGE_SIZE as u64).unwrap_or(0)
    }
}

/// The kernel's own view of a claimed range.
///
/// # Invariants
///
/// All pages of `claim` are mapped from `address` on with `cache`. The range holds no memory that Rust
/// code has references into.
pub struct View {
    address: NonNull<u8>,
    cache: Cache,
    width: u32,
    claim: Claim,
}

// SAFETY: Mappings belong to no thread.
unsafe impl Send for View {}
// SAFETY: Access is by machine instructions whose races the range's users settle among themselves.
unsafe impl Sync for View {}

impl View {
    /// Maps a range; uncached memory is read and written in words of `width` bits.
    pub fn new(claim: Claim, cache: Cache, width: u32) -> Option<Self> {
        // SAFETY: The range is ours, and not System RAM.
        let view = unsafe { kmap_helper_map_view(claim.start(), claim.bytes(), cache.number()) };
        // INVARIANT: The kernel has mapped all of it.
        Some(Self {
            address: NonNull::new(view.cast())?,
            cache,
            width,
            claim,
        })
    }

    /// The claim.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The frames from a page on, at most `most`.
    pub fn frames(&self, index: usize, most: usize) -> Option<Frames<'_>> {
        let count = self.claim.pages().checked_sub(index);
        let count = count.filter(|count| *count > 0)?.min(most);
        let first = self.claim.start() / PAGE_SIZE as u64 + index as u64;
        // SAFETY: They are those of the range that is ours by the claim, as long as we live.
        Some(unsafe { Frames::new(first, count) })
    }

    /// How the kernel has it mapped.
    pub fn attributes(&self) -> Attributes<'_> {
        // SAFETY: By the type's invariants the address is of the range, which is mapped with this mode.
        unsafe { Attributes::new(self.cache, self.address.as_ptr()) }
    }

    /// The width of an access in bits, where the range is accessed by words.
    pub fn word(&self) -> Option<u32> {
        match self.cache {
            Cache::Cached => None,
            Cache::WriteCombined | Cache::Uncached => Some(self.width),
        }
    }

    /// Bytes of a page, from `offset` in it, at most `length`.
    pub fn bytes(&self, index: usize, offset: usize, length: usize) -> Option<Bytes<'_>> {
        if index >= self.claim.pages() {
            return None;
        }
        let length = length.min(PAGE_SIZE.checked_sub(offset)?);
        // SAFETY: The page lies in the view, and the bytes stay in the page.
        Some(unsafe {
            let address = self.address.as_ptr().add(index * PAGE_SIZE + offset);
            match self.word() {
                None => Bytes::new(address, length),
                Some(width) => Bytes::by_words(address, length, width),
            }
        })
    }

    /// The word at the start of a page.
    fn word_at(&self, index: usize) -> Option<*mut u8> {
        if index >= self.claim.pages() {
            return None;
        }
        // SAFETY: The page lies in the view.
        Some(unsafe { self.address.as_ptr().add(index * PAGE_SIZE) })
    }

    /// Reads `count` words from the start of a page.
    pub fn sample(&self, index: usize, count: usize, mut each: impl FnMut(u64, u32)) {
        let step = (self.width / 8).max(1) as usize;
        let Some(first) = self.word_at(index) else {
            return;
        };
        for at in (0..PAGE_SIZE).step_by(step).take(count) {
            // SAFETY: The word lies in the page, aligned to its size.
            let word = unsafe { kmap_helper_read_word(first.add(at).cast(), self.width) };
            each(word, self.width);
        }
    }

    /// Writes zeros to all of it. For memory: a device may do something when it is written.
    ///
    /// # Errors
    ///
    /// `EINTR` when the caller was killed meanwhile.
    pub fn clear(&self) -> Result {
        let zeros = [0u8; 64];
        for page in 0..self.claim.pages() {
            for at in (0..PAGE_SIZE).step_by(zeros.len()) {
                let bytes = self.bytes(page, at, zeros.len()).ok_or(EINVAL)?;
                // SAFETY: There are as many zeros, in memory of the kernel's own: the bytes end with the page, of whose
                // size 64 is a divisor.
                unsafe { bytes.copy_from_kernel(zeros.as_ptr())? };
            }
            task::resched_unless_killed()?;
        }
        Ok(())
    }

    /// Whether two patterns written to the start of a page can be read back from the memory, not from a cache.
    /// The old contents are restored.
    pub fn keeps(&self, index: usize) -> bool {
        let Some(word) = self.word_at(index) else {
            return false;
        };
        let mask = u64::MAX >> (64 - self.width);
        // SAFETY: The word lies in the page, aligned to its size; the range is memory, by declaration.
        unsafe {
            let before = kmap_helper_read_word(word.cast(), self.width);
            let mut kept = true;
            for pattern in [0x5555_aaaa_3333_cccc & mask, !0x5555_aaaa_3333_cccc & mask] {
                kmap_helper_write_word(word.cast(), pattern, self.width);
                kmap_helper_flush(word.cast(), 8);
                kept &= kmap_helper_read_word(word.cast(), self.width) == pattern;
            }
            kmap_helper_write_word(word.cast(), before, self.width);
            kmap_helper_flush(word.cast(), 8);
            kept
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: By the type's invariants; nothing uses the view any more.
        unsafe { kmap_helper_unmap_view(self.address.as_ptr().cast(), self.cache.number()) };
    }
}

impl Backing for View {
    fn len(&self) -> usize {
        self.claim.pages()
    }

    fn page(&self, _index: usize) -> Option<PageRef<'_>> {
        None
    }

    fn frames<'a>(&'a self, _hold: &'a Hold<'_>, index: usize, most: usize) -> Option<Frames<'a>> {
        Self::frames(self, index, most)
    }

    fn attributes(&self) -> Attributes<'_> {
        Self::attributes(self)
    }

    fn bytes<'a>(
        &'a self,
        _hold: &'a Hold<'_>,
        index: usize,
        offset: usize,
        length: usize,
    ) -> Option<Bytes<'a>> {
        Self::bytes(self, index, offset, length)
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.address)
    }
}
