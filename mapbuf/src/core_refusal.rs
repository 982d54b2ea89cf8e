//! Refusals that the kernel's memory manager makes by itself: the driver is not asked, so it gives no reason.
//!
//! They are recognised from the request and the `errno`. If several causes fit, the one that the kernel checks first is
//! named; if none fits, no cause is given.

use crate::{
    access::{Access, Sharing},
    bounds::wide,
};
use rustix::io::Errno;

/// Why the kernel's memory manager refused, as far as the request shows it.
///
/// Each one's documentation names the place in the kernel that decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreRefusal {
    /// `do_mmap`, `mm/mmap.c`: `if (!len) return -EINVAL`.
    #[error("a mapping of 0 bytes was requested")]
    ZeroLength,
    /// `mmap`, `arch/x86/kernel/sys_x86_64.c`: `if (off & ~PAGE_MASK) return -EINVAL`.
    #[error("the offset {offset:#x} is not a multiple of the page size {page_size}")]
    UnalignedOffset {
        /// The `mmap` offset.
        offset: u64,
        /// Bytes in a page.
        page_size: u64,
    },
    /// `do_mmap`, `mm/mmap.c`: `EOVERFLOW` if offset plus length wraps.
    #[error("{len} bytes from offset {offset:#x} exceed the largest possible offset")]
    OffsetWraps {
        /// The `mmap` offset.
        offset: u64,
        /// The length.
        len: u64,
    },
    /// `do_mmap`, `mm/mmap.c`: `EACCES` for `MAP_SHARED` with `PROT_WRITE` on a file that was not opened for writing.
    #[error("a shared writable mapping was requested, and the file was opened read-only")]
    SharedWriteOfReadOnlyOpen,
    /// `do_mmap`, `mm/mmap.c`: `ENOMEM` if the address space has no room, or `RLIMIT_AS` or
    /// `vm.max_map_count` is reached.
    #[error("the process's address space has no room for {len} more bytes")]
    NoAddressSpace {
        /// The length.
        len: u64,
    },
    /// `__mmap_setup`, `mm/vma.c`: a private writable mapping is charged for the copies that it may need
    /// (`accountable_mapping`), so `ENOMEM` can come from the overcommit limit, too.
    #[error("there is no room for {len} bytes of private copies: in the address space, or within the kernel's overcommit \
             limit")]
    NoRoomForCopies {
        /// The length.
        len: u64,
    },
    /// `do_mmap`, `mm/mmap.c`: `EAGAIN` if `RLIMIT_MEMLOCK` is reached (after `mlockall(MCL_FUTURE)`).
    #[error("{len} more bytes would exceed the process's limit on locked memory")]
    LockLimit {
        /// The length.
        len: u64,
    },
    /// `dma_buf_mmap_internal`, `drivers/dma-buf/dma-buf.c`: the mapping runs past the end of the dma-buf.
    #[error("{len} bytes from byte {offset} run past the end of a dma-buf of {size} bytes")]
    BeyondExport {
        /// The offset in the buffer.
        offset: u64,
        /// The length.
        len: u64,
        /// The dma-buf's size.
        size: u64,
    },
    /// `do_mprotect_pkey`, `mm/mprotect.c`: `EACCES` if `VM_MAYWRITE` is cleared, as it is for shared
    /// mappings of a file opened read-only, and for every private mapping that was made read-only.
    #[error("the mapping can never become writable: it was made read-only, and private or from a read-only open")]
    NeverWritable,
    /// `check_prep_vma`, `mm/mremap.c`: `EFAULT` for a mapping with `VM_DONTEXPAND`.
    #[error("mappings of buffers do not grow ({from} to {to} bytes)")]
    NoGrowth {
        /// The current length.
        from: u64,
        /// The requested length.
        to: u64,
    },
    /// `check_vma_flags`, `mm/gup.c`: `EFAULT` for a mapping with `VM_IO` or `VM_PFNMAP` where the kernel is to pin pages.
    #[error("the file's device takes pages, and this mapping is one of page frames, or its memory has no pages")]
    NoPages,
}

impl CoreRefusal {
    /// What to do next.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::ZeroLength => "map at least 1 byte; lengths are rounded up to whole pages",
            Self::UnalignedOffset { .. } => {
                "map from the start of the page, and use the bytes that you need"
            }
            Self::OffsetWraps { .. } => {
                "use the mmap_offset that ALLOC or OFFSET returned, plus whole pages within the buffer"
            }
            Self::SharedWriteOfReadOnlyOpen => {
                "open the node for reading and writing, or map it read-only"
            }
            Self::NoAddressSpace { .. } => {
                "unmap something, or raise the limit (ulimit -v, or vm.max_map_count for many mappings)"
            }
            Self::NoRoomForCopies { .. } => {
                "map it shared or read-only; or compare CommitLimit with Committed_AS in /proc/meminfo \
                 (vm.overcommit_memory), and look at ulimit -v"
            }
            Self::LockLimit { .. } => "raise the limit (ulimit -l), or unlock memory",
            Self::BeyondExport { .. } => "map no more than what lies between the offset and the end",
            Self::NeverWritable => {
                "map the buffer again, shared, through a file that was opened for writing"
            }
            Self::NoGrowth { .. } => {
                "allocate a larger buffer, or map more of the same buffer as a new mapping"
            }
            Self::NoPages => {
                "open the file without O_DIRECT; or allocate memory with pages (pages, vmalloc, contiguous, alloc_dma), and \
                 map it by auto"
            }
        }
    }
}

/// The arguments of an `mmap(2)` call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MmapCall {
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) access: Access,
    pub(crate) sharing: Sharing,
    pub(crate) page_size: u64,
    /// How the file was opened.
    pub(crate) opened: Access,
    /// The size of the dma-buf, where the file is one.
    pub(crate) export_bytes: Option<u64>,
}

/// Recognises the core's refusal of an `mmap` for which the driver gave no reason.
pub(crate) fn of_mmap(call: &MmapCall, errno: Errno) -> Option<CoreRefusal> {
    let MmapCall { offset, .. } = *call;
    let len = wide(call.len);
    let end = offset
        .checked_add(len)
        .and_then(|end| end.checked_next_multiple_of(call.page_size));
    match errno {
        // In the order in which the kernel looks.
        Errno::INVAL if offset % call.page_size != 0 => Some(CoreRefusal::UnalignedOffset {
            offset,
            page_size: call.page_size,
        }),
        Errno::INVAL if len == 0 => Some(CoreRefusal::ZeroLength),
        Errno::INVAL | Errno::OVERFLOW => match call.export_bytes {
            _ if end.is_none() => Some(CoreRefusal::OffsetWraps { offset, len }),
            Some(size) if end.is_some_and(|end| end > size) => {
                Some(CoreRefusal::BeyondExport { offset, len, size })
            }
            _ => None,
        },
        Errno::ACCESS
            if call.opened == Access::ReadOnly
                && call.access == Access::ReadWrite
                && call.sharing == Sharing::Shared =>
        {
            Some(CoreRefusal::SharedWriteOfReadOnlyOpen)
        }
        Errno::NOMEM if call.sharing == Sharing::Private && call.access == Access::ReadWrite => {
            Some(CoreRefusal::NoRoomForCopies { len })
        }
        Errno::NOMEM => Some(CoreRefusal::NoAddressSpace { len }),
        Errno::AGAIN => Some(CoreRefusal::LockLimit { len }),
        _ => None,
    }
}

/// Recognises the core's refusal of an `mprotect` to `access`.
pub(crate) fn of_mprotect(access: Access, errno: Errno) -> Option<CoreRefusal> {
    match (errno, access) {
        (Errno::ACCESS, Access::ReadWrite) => Some(CoreRefusal::NeverWritable),
        _ => None,
    }
}

/// Recognises the core's refusal of an `mremap`.
pub(crate) fn of_mremap(from: usize, to: usize, errno: Errno) -> Option<CoreRefusal> {
    let (from, to) = (wide(from), wide(to));
    match errno {
        Errno::INVAL if to == 0 => Some(CoreRefusal::ZeroLength),
        Errno::FAULT if to > from => Some(CoreRefusal::NoGrowth { from, to }),
        Errno::NOMEM => Some(CoreRefusal::NoAddressSpace { len: to }),
        Errno::AGAIN => Some(CoreRefusal::LockLimit { len: to }),
        _ => None,
    }
}

/// Recognises the core's refusal to move bytes between a mapping and a file.
pub(crate) fn of_transfer(errno: Errno) -> Option<CoreRefusal> {
    // The bytes are mapped, so it is not the address.
    (errno == Errno::FAULT).then_some(CoreRefusal::NoPages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALL: MmapCall = MmapCall {
        offset: 0x1000,
        len: 4096,
        access: Access::ReadWrite,
        sharing: Sharing::Shared,
        page_size: 4096,
        opened: Access::ReadWrite,
        export_bytes: None,
    };

    #[test]
    fn what_the_request_shows_is_said() {
        assert_eq!(
            of_mmap(&MmapCall { len: 0, ..CALL }, Errno::INVAL),
            Some(CoreRefusal::ZeroLength)
        );
        assert_eq!(
            of_mmap(&MmapCall { offset: 1, ..CALL }, Errno::INVAL),
            Some(CoreRefusal::UnalignedOffset {
                offset: 1,
                page_size: 4096
            })
        );
        let last = u64::MAX - 4095;
        assert!(matches!(
            of_mmap(
                &MmapCall {
                    offset: last,
                    ..CALL
                },
                Errno::OVERFLOW
            ),
            Some(CoreRefusal::OffsetWraps { .. })
        ));
        let read_only = MmapCall {
            opened: Access::ReadOnly,
            ..CALL
        };
        assert_eq!(
            of_mmap(&read_only, Errno::ACCESS),
            Some(CoreRefusal::SharedWriteOfReadOnlyOpen)
        );
        let copies = MmapCall {
            sharing: Sharing::Private,
            ..CALL
        };
        assert!(matches!(
            of_mmap(&copies, Errno::NOMEM),
            Some(CoreRefusal::NoRoomForCopies { len: 4096 })
        ));
        assert!(matches!(
            of_mmap(&CALL, Errno::NOMEM),
            Some(CoreRefusal::NoAddressSpace { len: 4096 })
        ));
        let export = MmapCall {
            export_bytes: Some(4096),
            ..CALL
        };
        assert!(matches!(
            of_mmap(&export, Errno::INVAL),
            Some(CoreRefusal::BeyondExport { size: 4096, .. })
        ));
        assert_eq!(
            of_mprotect(Access::ReadWrite, Errno::ACCESS),
            Some(CoreRefusal::NeverWritable)
        );
        assert_eq!(
            of_mremap(4096, 8192, Errno::FAULT),
            Some(CoreRefusal::NoGrowth {
                from: 4096,
                to: 8192
            })
        );
    }

    #[test]
    fn what_it_does_not_show_is_not_claimed() {
        assert_eq!(of_mmap(&CALL, Errno::INVAL), None);
        assert_eq!(of_mmap(&CALL, Errno::ACCESS), None);
        assert_eq!(of_mmap(&CALL, Errno::NODEV), None);
        assert_eq!(of_mprotect(Access::ReadOnly, Errno::ACCESS), None);
        assert_eq!(of_mremap(8192, 4096, Errno::FAULT), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(offset: u64, len: usize, errno in 1_i32..134) {
            let call = MmapCall { offset, len, export_bytes: Some(offset), ..CALL };
            let errno = Errno::from_raw_os_error(errno);
            if let Some(refusal) = of_mmap(&call, errno) {
                prop_assert!(!refusal.to_string().is_empty() && !refusal.remedy().is_empty());
            }
            let _ = of_mremap(len, len / 2, errno);
        }
    }
}
