// SPDX-License-Identifier: GPL-2.0

//! The NUMA nodes from which the caller may take memory.

use super::{
    frames::Frames,
    helpers::{
        kmap_helper_frame_allowed,
        kmap_helper_node_allowed, //
    }, //
};

/// Whether a node is one of the memory nodes of the caller's cpuset.
pub fn node_allowed(node: i32) -> bool {
    // SAFETY: The function takes any number.
    unsafe { kmap_helper_node_allowed(node) }
}

/// Whether the first of these page frames lies on one of them.
pub fn frames_allowed(frames: Frames<'_>) -> bool {
    // SAFETY: The function takes any number; by the type's invariants the frame stays what it is meanwhile.
    unsafe { kmap_helper_frame_allowed(frames.first() as usize) }
}
