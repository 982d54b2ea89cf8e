// SPDX-License-Identifier: GPL-2.0

//! Which NUMA nodes the caller may have memory from.

use super::helpers::{
    mapbuf_frame_allowed,
    mapbuf_node_allowed, //
};

/// Whether the caller's cpuset has a node among its memory nodes.
pub(crate) fn node_allowed(node: i32) -> bool {
    // SAFETY: The function takes any number.
    unsafe { mapbuf_node_allowed(node) }
}

/// Whether the memory of a page frame that was just allocated lies on one of them.
pub(crate) fn frame_allowed(pfn: u64) -> bool {
    // SAFETY: Only frames of memory are asked for, as all callers have allocated them.
    unsafe { mapbuf_frame_allowed(pfn as _) }
}
